"""The tables of papers with our numbers beside theirs, from committed records alone.

``spec`` reads what a table looks like (data: ``leaderboards/published/tables/*.yaml``), ``pool``
holds the records of all boards by setting, ``match`` finds the nearest to a published number and
says how it differs, ``choice`` sees that a table's cells are alike, ``sheet`` fills them, and
``texts`` and ``page`` write them.
"""
