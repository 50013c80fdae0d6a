#!/bin/sh
# The start of every everindex container: migrate, then become the server. A container that could not migrate ends with
# status 1 and does not serve. Works outside a container too: DATABASE_URL=... sh docker-entrypoint.sh everindex serve
#
#   docker run IMAGE                           migrate, then `everindex serve`
#   docker run IMAGE migrate-only              migrate, then end (the one-shot service of compose.yaml)
#   docker run IMAGE search "memory leak"      any other command of everindex; only `serve` is migrated for
#   docker run IMAGE up                        the demonstration: own server, sample, index, pages
#   docker run IMAGE sh                        any other program, after the migrations
#
# The server is named in the environment. A name with _FILE is read from that file instead (container secrets).
#   DATABASE_URL          postgresql://user:password@host:5432/database   (or DATABASE_URL_FILE)
#   DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD   the same in parts       (or DB_PASSWORD_FILE)
#   EVERINDEX_WAIT        seconds to wait for a server that is starting, 60; what waiting cannot cure ends at once
#   EVERINDEX_HOME        without DATABASE_URL and DB_HOST everindex runs a server of its own, with its data here
# What this script itself obeys:
#   AUTO_MIGRATE          1 (the default), or 0: someone else migrates (a job, the service `migrate`), start at once
#   EVERINDEX_ATTACHED    true: an application with its own migrations migrates; only the declared indexes are built
#   EVERINDEX_BUILD       auto: a build of a minute or more is left to the keeper of the application; wait; background
#   ALEMBIC_CONFIG        another alembic.ini than the one beside this script
# Of the application, the ones that a container most often sets (docs/settings.md lists all):
#   EVERINDEX_HOST PORT                           where the pages listen: 0.0.0.0 in the image, 8000
#   OPENAI_API_KEY OPENAI_BASE_URL EMBEDDING_MODEL   another embedding model (or OPENAI_API_KEY_FILE)
#   EVERINDEX_DIMENSIONS                          width of articles.embedding, read by the first migration only; 1536
#   EVERINDEX_LOG_LEVEL EVERINDEX_LOG_FORMAT      INFO; console, or json
set -eu

umask 077 # what is written is nobody else's to read: the data of an embedded server, a file with a key

# The migrations lie beside this script. The working directory stays the caller's: relative files in "$@" keep their meaning.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
ALEMBIC_CONFIG=${ALEMBIC_CONFIG:-$here/alembic.ini}
EVERINDEX_BUILD=${EVERINDEX_BUILD:-auto}
export ALEMBIC_CONFIG EVERINDEX_BUILD

# `docker stop` sends SIGTERM to this shell. A shell that waits for a program does not pass it on, and as process 1 would
# not even end; then the container is killed after its grace period, in the middle of a build. So alembic runs in the
# background, and the signal goes to it.
alembic() {
  command alembic "$@" &
  migration=$!
  trap 'kill -TERM "$migration" 2>/dev/null || :' TERM INT
  status=0
  wait "$migration" || status=$?
  while kill -0 "$migration" 2>/dev/null; do # a signal ended the wait, not yet the program
    wait "$migration" || status=$?
  done
  trap - TERM INT
  return "$status"
}

# What is to run? Without a command, the server; options, and the commands that everindex itself names, are given to it.
case "${1:-}" in
  '') set -- everindex serve ;;
  -*) set -- everindex "$@" ;;
  everindex | migrate-only | */*) ;;
  *)
    if everindex --commands | grep -qxFe "$1"; then set -- everindex "$@"; fi
    ;;
esac

# Commands of everindex that read, or migrate by themselves (`up`, `migrate`), start at once.
if [ "$1" = "everindex" ] && [ "${2:-}" != "serve" ]; then
  exec "$@"
fi

# AUTO_MIGRATE=0 is for many replicas of one database, with one job that runs `migrate-only` for all of them. Two that
# migrate at the same time are no harm either: the second waits for the lock of the first, and finds nothing to do.
case "${AUTO_MIGRATE:-1}" in
  0 | false | no | off)
    if [ "$1" != "migrate-only" ]; then
      exec "$@"
    fi
    ;;
esac

# Waits for PostgreSQL, then applies the missing migrations (attached: nothing, but missing indexes are built). What
# goes wrong is told in three lines: what happened, why, what to do next (docs/problems/ has a page for each).
echo "Running database migrations..."
if ! alembic upgrade head; then
  echo "❌ ERROR: Database migrations FAILED!"
  exit 1
fi
echo "✅ Database migrations completed successfully"
if [ "$1" = "migrate-only" ]; then
  exit 0
fi

# Become the command: it is process 1 of the container, and signals reach it.
exec "$@"
