"""What the lines of haproxy.cfg that find out who calls look like, whatever a definition holds."""

CALLER = r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}"

_KNOWN_HOW = r"{ var\(txn\.source_kind\) -m found }"
_NAMED = r"{ var\(txn\.source\) -m found }"
_HERE = r"( { so_id \d+( \d+)* })?"

WHO_CALLS = [
    rf"    (http-request|tcp-request content) set-var\(txn\.source\) str\({CALLER}\) if {{ so_id \d+ }}",
    rf"    (http-request|tcp-request content) set-var\(txn\.source_kind\) str\(listener\) if {_NAMED}",
    rf"    http-request set-var\(txn\.source\) req\.hdr\(X-Smartstack-Source\) if( !{_NAMED})?{_HERE}"
    r" { req\.hdr_cnt\(X-Smartstack-Source\) eq 1 } { req\.hdr\(X-Smartstack-Source\) -m reg"
    r" '\^\[A-Za-z0-9\]\[A-Za-z0-9_\.@-\]\{0,99\}\$' }",
    rf"    http-request set-var\(txn\.source_kind\) str\(header\) if {_NAMED}( !{_KNOWN_HOW})?",
    rf"    http-request set-header X-Smartstack-Source %\[var\(txn\.source\)\] if {_NAMED}",
    rf"    http-request del-header X-Smartstack-Source( if !{_NAMED})?",
]
"""Regular expressions, each for a whole line."""
