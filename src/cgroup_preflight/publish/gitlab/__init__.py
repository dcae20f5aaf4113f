"""GitLab: the job's environment and the notes of a merge request."""
