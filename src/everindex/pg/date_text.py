"""Dates that are stored as text: which of them compare as dates do, and the statement that rewrites the others.

A text that begins with YYYY-MM-DD is ordered by day, whatever follows; the time zone of what follows is not looked at.
"""

from __future__ import annotations

from psycopg import sql

#: After an operand of type text: true for what is no ISO-8601 date (NULL gives NULL).
NOT_ISO = "!~ '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])($|[T ])'"

# Each value is read in a block of its own: a cast that fails costs that value only. PostgreSQL reads `GMT+2` as POSIX does, two
# hours west of Greenwich; mail and feeds mean east.
_NORMALISE = """DO $everindex$
DECLARE
    one record;
    given text;
    part text[];
    iso text;
BEGIN
    PERFORM pg_catalog.set_config('datestyle', 'ISO, MDY', true), pg_catalog.set_config('timezone', 'UTC', true);
    FOR one IN SELECT ctid, {column} AS given FROM {table} WHERE {column} {not_iso} LOOP
        iso := NULL;
        given := pg_catalog.btrim(one.given, E' \\t\\r\\n');
        BEGIN
            IF given ~ '^-?[0-9]{{9,10}}([.][0-9]+)?$' THEN
                iso := pg_catalog.to_char(pg_catalog.to_timestamp(given::double precision), 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
            ELSIF given ~ '^[0-9]{{12,13}}$' THEN
                iso := pg_catalog.to_char(pg_catalog.to_timestamp(given::double precision / 1000), 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
            ELSIF given ~ '^(19|20)[0-9]{{6}}$' THEN
                iso := given::date::text;
            ELSIF given ~ '^[0-9]{{4}}$' THEN
                iso := given || '-01-01';
            ELSIF given ~ '^[0-9]{{4}}[-/.](0?[1-9]|1[0-2])$' THEN
                part := pg_catalog.regexp_split_to_array(given, '[-/.]');
                iso := pg_catalog.make_date(part[1]::int, part[2]::int, 1)::text;
            ELSE
                part := pg_catalog.regexp_match(given, '^([0-9]{{4}})[-/.]([0-9]{{1,2}})[-/.]([0-9]{{1,2}})($|[T ,].*$)');
                IF part IS NULL THEN
                    part := pg_catalog.regexp_match(given, '^([0-9]{{1,2}})([-/.])([0-9]{{1,2}})[-/.]([0-9]{{4}})($|[T ,].*$)');
                    IF part[2] = '/' AND part[3]::int > 12 THEN
                        part := ARRAY[part[4], part[1], part[3], part[5]];
                    ELSIF part[2] <> '/' OR part[1]::int > 12 OR part[1]::int = part[3]::int THEN
                        part := ARRAY[part[4], part[3], part[1], part[5]];
                    ELSE
                        part := NULL;
                    END IF;
                END IF;
                IF part IS NOT NULL THEN
                    given := pg_catalog.make_date(part[1]::int, part[2]::int, part[3]::int)::text || coalesce(part[4], '');
                ELSIF given !~* '\\m(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)' OR given !~ '[0-9]' THEN
                    given := NULL;
                END IF;
                given := pg_catalog.regexp_replace(given, '(GMT|UTC?)\\s*([+-][0-9]{{1,2}})(:?[0-9]{{2}})?$', '\\2\\3');
                IF given !~ '[0-9]:[0-9]' THEN
                    iso := given::date::text;
                ELSIF given ~ '[0-9]\\s*(Z|[+-][0-9]{{1,2}}(:?[0-9]{{2}})?|[A-Za-z]{{1,5}})$' AND given !~* '[0-9]\\s*[ap]m$' THEN
                    iso := pg_catalog.to_char(given::timestamptz, 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
                ELSE
                    iso := pg_catalog.to_char(given::timestamp, 'YYYY-MM-DD"T"HH24:MI:SS');
                END IF;
            END IF;
        EXCEPTION WHEN data_exception OR feature_not_supported THEN
            iso := NULL;
        END;
        IF iso {not_iso} THEN
            iso := NULL;
        END IF;
        IF iso IS NOT NULL OR pg_catalog.btrim(one.given, E' \\t\\r\\n') = '' THEN
            UPDATE {table} SET {column} = iso WHERE ctid = one.ctid AND {column} = one.given;
        END IF;
    END LOOP;
END $everindex$"""


def normalise(table: sql.Identifier, column: str) -> str:
    """One statement that writes every text of `column` that has a date as ISO 8601 and an empty one as NULL.

    Times with a zone become UTC. What it cannot tell (3/4/2024, names of months in another language) stays as it is.
    """
    return (
        sql.SQL(_NORMALISE).format(table=table, column=sql.Identifier(column), not_iso=sql.SQL(NOT_ISO)).as_string(None)
    )
