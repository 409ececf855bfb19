"""What `new_service` writes under another name: a server, its node module and a load, which work as they stand."""
