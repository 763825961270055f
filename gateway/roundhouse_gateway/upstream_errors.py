"""Why an upstream is not called: what it asks for is not at hand, or it is not who it says."""

from roundhouse_gateway.errors import EngineUnreachableError, GatewayError


class UpstreamAccessError(GatewayError):
    """What an upstream asks for, a key or a certificate to believe, is not at hand.

    What objects of the cluster are called is for its operators, who have the log, and for no client.
    """

    status = 503
    type = "service_unavailable"
    code = "upstream_not_accessible"
    retry_is_useless = True

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Engine '{model_id}' is an upstream that cannot be called: the key or the certificates that it "
            "asks for are not at hand. The gateway's log says what is missing."
        )


class UntrustedUpstreamError(EngineUnreachableError):
    """Its certificate is not to be believed, so nothing was sent."""

    def __init__(self, model_id: str, why: str) -> None:
        super().__init__(f"Engine '{model_id}': the certificate of its upstream is not trusted: {why}.")
