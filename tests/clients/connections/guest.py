"""An Ansible connection to a user of a guest: `test_fleet_guest.py` has the other end of the socket."""

import base64
import json
import os
import socket

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: guest
short_description: commands in a guest
description: For tests.
author: the cgroup-preflight developers
options:
  guest_socket:
    description: The socket of the test.
    vars: [{name: guest_socket}]
    required: true
  guest_user:
    description: Who runs the commands.
    vars: [{name: guest_user}]
    required: true
  name:
    description: The name of the host.
    vars: [{name: inventory_hostname}]
extends_documentation_fragment: [connection_pipelining]
"""


class Connection(ConnectionBase):
    transport = "guest"
    has_pipelining = True

    def _connect(self):
        return self

    def close(self):
        pass

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        data = in_data.encode() if isinstance(in_data, str) else in_data or b""
        answer = self._ask(op="run", argv=["/bin/sh", "-c", cmd], stdin=base64.b64encode(data).decode())
        return answer["status"], base64.b64decode(answer["out"]), base64.b64decode(answer["err"])

    def put_file(self, in_path, out_path):
        with open(in_path, "rb") as file:
            self._ask(op="put", path=out_path, stdin=base64.b64encode(file.read()).decode())

    def fetch_file(self, in_path, out_path):
        raise AnsibleConnectionFailure("nothing is fetched here")

    def _ask(self, **question):
        name, user = self.get_option("name"), self.get_option("guest_user")
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(os.fspath(self.get_option("guest_socket")))
            line.sendall(json.dumps({"host": name, "user": user, **question}).encode() + b"\n")
            with line.makefile("rb") as file:
                answer = file.readline()
        if not answer:
            raise AnsibleConnectionFailure("the connection broke")
        return json.loads(answer)
