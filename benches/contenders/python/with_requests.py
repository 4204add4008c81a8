"""requests: warm, bulk (threads), truth.

As https://requests.readthedocs.io/en/latest/user/quickstart/ and …/advanced/ show it: a Session
keeps connections, here one per thread; ``raise_for_status`` reports errors.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import requests

import measure

plan = measure.arguments()
url = f"{plan.url}/partner/deleteInstanceAccount/{plan.token}"
own = threading.local()


def post(id_instance):
    if not hasattr(own, "session"):
        own.session = requests.Session()
    response = own.session.post(url, json={"idInstance": id_instance}, timeout=30)
    response.raise_for_status()
    return response


def call(id_instance):
    return post(id_instance).ok


if plan.way == "warm":
    measure.warm(plan, call)
elif plan.way == "bulk":
    with ThreadPoolExecutor(plan.concurrency) as pool, measure.Figures(plan) as figures:
        figures.failed = sum(not ok for ok in pool.map(call, plan.ids))
elif plan.way == "truth":
    for id_instance in plan.ids:
        try:
            response = post(id_instance)
        except requests.RequestException as error:
            measure.print_word(id_instance, "failed", "failed", error)
            continue
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = None
        measure.print_word(id_instance, "deleted", measure.word_by_flag(body))
else:
    measure.no_such_way(plan)
