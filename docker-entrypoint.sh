#!/bin/sh
# The entrypoint of every everindex container: migrate, then become the server. If the migration fails, it exits with
# status 1 and does not serve. It also works outside a container: DATABASE_URL=... sh docker-entrypoint.sh everindex serve
#
#   docker run IMAGE                           migrate, then `everindex serve`
#   docker run IMAGE migrate-only              migrate, then exit (the one-shot service of compose.yaml)
#   docker run IMAGE search "memory leak"      any other command of everindex; only `serve` migrates first
#   docker run IMAGE up                        the demonstration: embedded server, sample, index, web pages
#   docker run IMAGE sh                        any other program, after the migrations
#
# The environment configures the server. A variable with _FILE names a file to read instead (container secrets).
#   DATABASE_URL          postgresql://user:password@host:5432/database   (or DATABASE_URL_FILE)
#   DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD   the same in parts       (or DB_PASSWORD_FILE)
#   EVERINDEX_WAIT        seconds to wait for a starting server, 60; errors that waiting cannot solve fail at once
#   EVERINDEX_HOME        without DATABASE_URL and DB_HOST everindex runs an embedded server, with its data here
# Variables of this script itself:
#   AUTO_MIGRATE          1 (the default), or 0: a job or the service `migrate` migrates; start at once
#   EVERINDEX_ATTACHED    true: the application has its own migrations; only the declared indexes are built
#   EVERINDEX_BUILD       auto: a build of a minute or more is left to the application's keeper; wait; background
#   ALEMBIC_CONFIG        a different alembic.ini than the one beside this script
# Variables of the application that containers set most often (docs/settings.md lists all):
#   EVERINDEX_HOST PORT                           where the web application listens: 0.0.0.0 in the image, 8000
#   EVERINDEX_ACCESS                              who may use it: sign-in, or open (everybody reads); see docs/access.md
#   OPENAI_API_KEY OPENAI_BASE_URL EMBEDDING_MODEL   another embedding model (or OPENAI_API_KEY_FILE)
#   EVERINDEX_DIMENSIONS                          width of articles.embedding, read by the first migration only; 1536
#   EVERINDEX_LOG_LEVEL EVERINDEX_LOG_FORMAT      INFO; console, or json
set -eu

umask 077 # files must be private: the data of an embedded server, a file with a key

# The migrations are beside this script. The working directory is not changed, so relative paths in "$@" stay valid.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
ALEMBIC_CONFIG=${ALEMBIC_CONFIG:-$here/alembic.ini}
EVERINDEX_BUILD=${EVERINDEX_BUILD:-auto}
export ALEMBIC_CONFIG EVERINDEX_BUILD

# `docker stop` sends SIGTERM to this shell. A shell waiting for a program does not pass it on, and as process 1 would
# not even exit; the container would be killed after its grace period, during a build. So alembic runs in the
# background, and the signal goes to it.
alembic() {
  command alembic "$@" &
  migration=$!
  trap 'kill -TERM "$migration" 2>/dev/null || :' TERM INT
  status=0
  wait "$migration" || status=$?
  while kill -0 "$migration" 2>/dev/null; do # a signal ended the wait, but not yet the program
    wait "$migration" || status=$?
  done
  trap - TERM INT
  return "$status"
}

# The command to run: the server by default; options and everindex's own commands are passed to everindex.
case "${1:-}" in
  '') set -- everindex serve ;;
  -*) set -- everindex "$@" ;;
  everindex | migrate-only | */*) ;;
  *)
    if everindex --commands | grep -qxFe "$1"; then set -- everindex "$@"; fi
    ;;
esac

# everindex commands that only read, or that migrate themselves (`up`, `migrate`), start at once.
if [ "$1" = "everindex" ] && [ "${2:-}" != "serve" ]; then
  exec "$@"
fi

# AUTO_MIGRATE=0 is for many replicas on one database, with one job that runs `migrate-only` for all of them. Two
# concurrent migrations do no harm: the second waits for the lock of the first and then finds nothing to do.
case "${AUTO_MIGRATE:-1}" in
  0 | false | no | off)
    if [ "$1" != "migrate-only" ]; then
      exec "$@"
    fi
    ;;
esac

# Waits for PostgreSQL, then applies the missing migrations (attached: only builds missing indexes). Errors: docs/problems/.
echo "Running database migrations..."
if ! alembic upgrade head; then
  echo "❌ ERROR: Database migrations FAILED!"
  exit 1
fi
echo "✅ Database migrations completed successfully"
if [ "$1" = "migrate-only" ]; then
  exit 0
fi

# Become the command, so that it is process 1 of the container and gets its signals.
exec "$@"
