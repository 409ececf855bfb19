"""The node side: what runs inside a job. Standard library only, Python 3.9 or later, relative imports only."""
