"""Calls the methods of GREEN-API's own SDK against the stand-in.

The SDK shows which form GREEN-API itself expects an answer to have.
"""

import asyncio
import os

from whatsapp_api_client_python.API import GreenApi, GreenApiPartner

URL, TOKEN = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
EXPIRED = "Instance account is expired. Renew your instance from personal area"


def instance(listed: dict) -> GreenApi:
    """The SDK's client of one instance."""
    return GreenApi(str(listed["idInstance"]), listed["apiTokenInstance"], host=URL)


def main() -> None:
    """Creates, lists, asks for states, logs out and deletes, like the SDK's examples."""
    partner = GreenApiPartner(TOKEN, "", host=URL).partner

    made = partner.createInstance({"name": "made by the SDK", "typeInstance": "telegram"})
    assert made.code == 200 and made.data is not None, made.error
    fields = {"idInstance", "apiTokenInstance", "typeInstance"}
    assert fields <= set(made.data), made.data
    assert instance(made.data).account.getStateInstance().data == {
        "stateInstance": "notAuthorized"
    }

    listed = {item["idInstance"]: item for item in partner.getInstances().data}
    own = listed[made.data["idInstance"]]
    assert (own["name"], own["typeInstance"]) == ("made by the SDK", "telegram")
    assert own["apiTokenInstance"] == made.data["apiTokenInstance"]
    assert own["timeDeleted"] == "0001-01-01T00:00:00" and own["deleted"] is False
    documented = "timeCreated tariff isFree isPartner expirationDate isExpired typeAccount"
    assert {*documented.split(), "partnerUserUiid"} <= set(own), own

    session = next(item for item in listed.values() if item["name"] == "authorized").copy()
    account = instance(session).account
    assert account.getStateInstance().data == {"stateInstance": "authorized"}
    assert account.logout().data == {"isLogout": True}
    expired = next(item for item in listed.values() if item["isExpired"] and item is not own)
    refused = instance(expired).account.getStateInstance()
    assert (refused.code, refused.error) == (400, EXPIRED), refused.error
    creating = next(item for item in listed.values() if item["name"] == "creating")
    assert instance(creating).account.getStateInstance().data is None

    gone = partner.deleteInstanceAccount(made.data["idInstance"])
    assert gone.data == {"deleteInstanceAccount": True}
    again = asyncio.run(partner.deleteInstanceAccountAsync(made.data["idInstance"]))
    assert again.data == {"code": 404, "description": "Not found"}
    wrong = GreenApiPartner("gac.wrong", "", host=URL).partner
    assert wrong.deleteInstanceAccount(1).data == {"code": 401, "description": "Unauthorized"}
    assert wrong.getInstances().code == 401


main()
