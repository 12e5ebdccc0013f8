"""What a command and a call from Python both do: find, load, compute, and show how far it is.

Suites and records by their names (``lookup``), where and how cells run and with which plugins
(``means``, ``crew``), the record of one cell (``cell``), a whole sweep (``sweeping``), and what the
terminal shows meanwhile (``progress``). Options and tables are for ``cli``, boards for ``api``.
"""
