"""What the server does for each operation, one file a resource."""
