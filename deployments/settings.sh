# Settings that `up` and `down` share; source it in a shell to use `prefect` with what `up` started.
# To change one, set it before: PORT, DCD_HOME, DATABASE_URL, or any PREFECT_… setting.
export DCD_ROOT="${DCD_ROOT:-$PWD}"
export DCD_HOME="${DCD_HOME:-$DCD_ROOT/.dcd}"
export PORT="${PORT:-4200}"
export PREFECT_HOME="$DCD_HOME/prefect"
export PREFECT_API_URL="http://127.0.0.1:$PORT/api"
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1
export PREFECT_LOGGING_EXTRA_LOGGERS=dcd
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY="${PREFECT_FLOWS_HEARTBEAT_FREQUENCY:-30}"
export PREFECT_WORKER_QUERY_SECONDS="${PREFECT_WORKER_QUERY_SECONDS:-5}"
# Prometheus: the server at /api/metrics.
export PREFECT_SERVER_METRICS_ENABLED="${PREFECT_SERVER_METRICS_ENABLED:-true}"
# A server that is away for a minute is waited for.
export PREFECT_CLIENT_MAX_RETRIES="${PREFECT_CLIENT_MAX_RETRIES:-10}"
# SQLite has one writer at a time; the others wait.
export PREFECT_SERVER_DATABASE_TIMEOUT="${PREFECT_SERVER_DATABASE_TIMEOUT:-60}"
# Records of runs that ended 90 days ago go, with their logs; the server's default keeps them for ever.
export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED="${PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED:-events,flow_runs}"
[ -z "${DATABASE_URL:-}" ] || export PREFECT_SERVER_DATABASE_CONNECTION_URL="$DATABASE_URL"

# Places that a deployment's concurrency limit has given away, on disk: a server that was killed would
# forget them in memory, and a place that nobody holds any more would stay taken for ever.
export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="${PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE:-prefect.server.concurrency.lease_storage.filesystem}"
