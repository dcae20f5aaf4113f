"""An Ansible connection to a host that is a UTS and a mount namespace of this machine: its own name, its own /srv.

The file `unreachable` in the folder of the host (variable `host_folder`) breaks the connection, also in the middle.
"""

import os
import shlex

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = """
name: namespaced
short_description: commands in namespaces of their own
description: For tests.
author: the cgroup-preflight developers
options:
  host_folder:
    description: What the host sees as /srv.
    vars: [{name: host_folder}]
    required: true
  name:
    description: The name of the host.
    vars: [{name: inventory_hostname}]
extends_documentation_fragment: [connection_pipelining]
"""


class Connection(LocalConnection):
    transport = "namespaced"

    def exec_command(self, cmd, in_data=None, sudoable=True):
        folder, name = self.get_option("host_folder"), self.get_option("name")
        self._require(folder)
        inner = f"hostname {shlex.quote(name)} && mount --bind {shlex.quote(folder)} /srv && {cmd}"
        words = ["unshare", "--mount", "--uts", "--propagation", "private", "--", "/bin/sh", "-c", inner]
        answer = super().exec_command(shlex.join(words), in_data=in_data, sudoable=sudoable)
        self._require(folder)
        return answer

    def _require(self, folder):
        if os.path.exists(f"{folder}/unreachable"):
            raise AnsibleConnectionFailure("the host does not answer")
