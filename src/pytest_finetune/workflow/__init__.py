"""Use cases that the plugin and the command line share."""
