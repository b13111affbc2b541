"""The table of the dashboards. Pure.

Each expression names metrics that the daemons export, and each is put to a real Prometheus in tests, which must answer
with data.
"""

from smartstack.monitoring.details import CALLERS, INSTANCE, ONE_ROUTE
from smartstack.monitoring.overview import FLEET, ONE_SERVICE
from smartstack.monitoring.pair import PAIR

DASHBOARDS = (FLEET, ONE_SERVICE, INSTANCE, CALLERS, ONE_ROUTE, PAIR)
