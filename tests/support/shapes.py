"""What the lines of haproxy.cfg look like that find out who calls, and that read the live map, whatever a definition
holds."""

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
    rf"    http-request set-var\(txn\.caller\) 'str\(caller/host\),map\(\"haproxy\.map\"\)' if !{_NAMED}{_HERE}",
    r"    http-request set-header X-Smartstack-Source %\[var\(txn\.caller\)\] if { var\(txn\.caller\) -m found }",
]
"""Regular expressions, each for a whole line."""

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_TOKEN = r"[A-Za-z0-9_.-]{1,100}"
_LOOK_UP = rf"'str\((split/{_WORD}/{_WORD}|rate/{_WORD})\),map\(\"haproxy\.map\",\d+\)'"
_TOLD = rf"'str\(share/{_WORD}\),map\(\"haproxy\.map\"\)'"
_VALUE = rf"(src|str\(-\)|var\(txn\.source\)|req\.fhdr\({_TOKEN}\)|req\.cook\({_TOKEN}\)|url_param\({_TOKEN}\))"
_PROC = r"proc\.retries_(left|at)\.[A-Za-z0-9_.]{1,200}"

SWITCHES = [
    r"    stick-table type string len 100 size 100k expire \d+ms store gpc0,gpc0_rate\(\d+ms\)",
    rf"    http-request set-var\(txn\.rate_source\) {_VALUE}( unless {{ var\(txn\.rate_source\) -m found }})?",
    rf"    http-request set-var\(txn\.(rate_bound|bound)\) {_LOOK_UP}",
    rf"    http-response set-var\(txn\.share\) {_TOLD} if {{ status lt 500 }}",
    r"    http-response set-log-level silent if { rand\(1000000\),sub\(txn\.share\) ge 0 }",
    r"    http-request track-sc2 var\(txn\.rate_source\)",
    r"    http-request return status 429 content-type text/plain hdr Retry-After \d+ lf-string "
    rf'"{_WORD} takes %\[var\(txn\.rate_bound\)\] requests in [0-9.]+ s from one source, and '
    r'%\[var\(txn\.rate_source\)\] sent more\\n" if { sc2_gpc0_rate,sub\(txn\.rate_bound\) ge 0 }',
    r"    http-request sc-inc-gpc0\(2\)",
    rf"    http-request set-var\(txn\.dice\) (rand\(10000\)|{_VALUE},crc32\(1\),mod\(10000\) if "
    rf"{{ {_VALUE} -m found }})",
    r"    http-request set-var\(txn\.part\) int\(\d+\) if !{ var\(txn\.part\) -m found } "
    r"{ var\(txn\.dice\),sub\(txn\.bound\) lt 0 }",
    rf"    use_backend {_WORD} if {{ var\(txn\.part\) -m int \d+ }} {{ nbsrv\({_WORD}\) gt 0 }}",
    rf'    http-request return status 503 content-type text/plain hdr Retry-After 1 string "(no live instance of '
    rf'{_WORD}\\n" if {{ nbsrv\({_WORD}\) eq 0 }} !{{ stopping }}|{_WORD} is full: \d+ requests wait already\\n" '
    rf"if {{ queue\({_WORD}\) ge \d+ }})",
    r'    http-error status 50[234] content-type text/plain hdr Retry-After 1 lf-string "[A-Za-z0-9_., :%-]+\\n"',
    r"    http-request set-var\(txn\.now\) date\(0,ms\)",
    rf"    http-request set-var\(txn\.most\) be_sess_rate\({_WORD}\),mul\(\d+\),add\(\d+\),mul\(10\),add\(1000000000\)",
    rf"    http-request set-var\({_PROC}\) var\(txn\.(now|most)\)( unless {{ var\({_PROC}\) -m found }}"
    rf"| if {{ var\({_PROC}\),sub\(txn\.most\) gt 0 }})?",
    rf"    http-request set-var\({_PROC}\) var\(txn\.now\),sub\({_PROC}\),mul\(\d+\),add\(\d+\),add\({_PROC}\) "
    rf"if {{ var\(txn\.now\),sub\({_PROC}\) ge 0 }}",
    rf"    http-request disable-l7-retry if {{ var\({_PROC}\) -m int lt 1000001000 }}",
    r"    http-after-response set-var-fmt\(txn\.retries\) %rc",
    rf"    http-after-response set-var\({_PROC}\) var\(txn\.retries\),regsub\(\[\+\],\),mul\(-1000\),add\({_PROC}\) "
    r"unless { var\(txn\.retries\) -m str 0 }",
]
"""The same for what the live map decides, for the retry budget, and for what HAProxy answers itself."""
