"""Options of a mount: one table, and the four places they come from (flag, environment, file, default).

`options` is the table, `mountwords` what mount(8) writes, `files` finds and reads configuration files, `resolve` puts
the sources in order, `example` writes a file to begin with. Used by the command line, which makes `MountOptions` of it.
"""
