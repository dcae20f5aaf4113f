"""The cgroup tree of this host: hierarchy, mount, controllers, the job's own place in it."""
