"""The steps from one schema to the next: `versions` since the first release, `before_release` of databases before it.

A step changes tables; rollups that it wants filled in from the rows it names in `op.get_bind().info["rollups"]`, and
`history.rollups.from_rows` does so after the last one, which knows the tables as they then are. So no step needs a code
that changes, and none imports anything of `history`.
"""
