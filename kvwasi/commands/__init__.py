"""The commands, by families: each module parses, calls the API, prints, and mounts itself on the application.

Imports that a command does not need for certain stay inside it: a cold ``kvwasi get`` is mostly imports.
"""
