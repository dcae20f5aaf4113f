"""Publishes reports on GitHub or GitLab: comment, check run, report files and a receipt."""
