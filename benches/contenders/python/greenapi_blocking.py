"""greenapi's Client: warm, bulk (the iterator), truth.

As its documentation shows: a context manager; a call returns if the instance is gone and raises
an error otherwise; ``delete_instances`` yields results.
"""

import os

import greenapi

import measure

WORDS = {
    greenapi.Effect.DELETED: "deleted",
    greenapi.Effect.NOT_DELETED: "failed",
    greenapi.Effect.UNKNOWN: "unknown",
}

plan = measure.arguments()
with greenapi.Client(
    plan.url,
    plan.token,
    ca_file=os.environ.get("SSL_CERT_FILE"),
    max_in_flight=plan.concurrency,
) as client:

    def call(id_instance):
        return client.delete_instance(id_instance).ok

    if plan.way == "warm":
        measure.warm(plan, call)
    elif plan.way == "bulk":
        with measure.Figures(plan) as figures:
            for result in client.delete_instances(plan.ids):
                figures.failed += not result.ok
    elif plan.way == "truth":
        for id_instance in plan.ids:
            try:
                result = client.delete_instance(id_instance)
            except greenapi.Error as error:
                word = WORDS[error.effect]
                measure.print_word(id_instance, word, word, error)
            else:
                measure.print_word(id_instance, "deleted", "deleted", result.message)
    else:
        measure.no_such_way(plan)
