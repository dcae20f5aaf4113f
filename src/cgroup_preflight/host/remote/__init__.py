"""A machine at the other end of lines: files by SFTP, commands by a POSIX shell, D-Bus by a bridge; nothing of ours runs there."""
