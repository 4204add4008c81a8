"""GREEN-API's own SDK, whatsapp-api-client-python: warm, truth.

As its README shows it: a GreenApiPartner; a response with the code 200 has data, any other has an
error. (Its session opens a new connection for every call.)
"""

import logging

from whatsapp_api_client_python.API import GreenApiPartner

import measure

plan = measure.arguments()
client = GreenApiPartner(plan.token, host=plan.url)
# The SDK logs every failure to standard error, with the secret URL. "truth" reads the response,
# which contains the same reason.
logging.getLogger("whatsapp-api-client-python").setLevel(logging.CRITICAL + 1)


def call(id_instance):
    return client.partner.deleteInstanceAccount(id_instance).code == 200


if plan.way == "warm":
    measure.warm(plan, call)
elif plan.way == "truth":
    for id_instance in plan.ids:
        response = client.partner.deleteInstanceAccount(id_instance)
        if response.code == 200:
            measure.print_word(id_instance, "deleted", measure.word_by_flag(response.data))
        else:
            measure.print_word(id_instance, "failed", "failed", response.error)
else:
    measure.no_such_way(plan)
