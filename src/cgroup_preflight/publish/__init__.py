"""The one room that talks to a forge: reports in, comments, check runs and report files out, and a receipt."""
