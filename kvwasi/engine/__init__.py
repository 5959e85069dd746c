"""The guest as typed calls: load the module, open a database in it, translate its statuses."""
