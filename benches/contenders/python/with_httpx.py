"""httpx: warm, truth.

As https://www.python-httpx.org/quickstart/ shows it: a Client keeps connections;
``raise_for_status`` reports errors.
"""

import httpx

import measure

plan = measure.arguments()
url = f"{plan.url}/partner/deleteInstanceAccount/{plan.token}"
with httpx.Client(timeout=30) as client:

    def post(id_instance):
        return client.post(url, json={"idInstance": id_instance}).raise_for_status()

    def call(id_instance):
        return post(id_instance).is_success

    if plan.way == "warm":
        measure.warm(plan, call)
    elif plan.way == "truth":
        for id_instance in plan.ids:
            try:
                response = post(id_instance)
            except httpx.HTTPError as error:
                measure.print_word(id_instance, "failed", "failed", error)
                continue
            try:
                body = response.json()
            except ValueError:
                body = None
            measure.print_word(id_instance, "deleted", measure.word_by_flag(body))
    else:
        measure.no_such_way(plan)
