"""What a request is called in the log and in metrics: the pattern of its route, of which there are few."""

from app.server.asgi import Scope

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OPERATIONS = ("/healthz", "/metrics")


def route_of(scope: Scope) -> str:
    """The pattern, such as `/gradio_api/call/{api_name}`, once the request was answered; never what somebody made up."""
    if scope.get("path") in OPERATIONS:
        return scope["path"]
    pattern = getattr(scope.get("route"), "path", "")
    return pattern or ("refused" if "endpoint" not in scope else "other")


def method_of(scope: Scope) -> str:
    """The method, `other` for one that nobody knows."""
    return scope["method"] if scope["method"] in _METHODS else "other"
