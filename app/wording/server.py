"""What the server says to whoever it does not serve, and to whoever runs it."""

FOREIGN_HOST = (
    "This server is not known by the name {host}: open it by the name that it was started with, or start it with "
    "--hosts and that name."
)
FOREIGN_ORIGIN = (
    "A page of {origin} may not send requests to this server: open the server's own page, or start it with --hosts and "
    "the name of that one."
)
FOREIGN_SITE = "Another site sent this request: open the server's own page instead."
NOT_A_PROXY = "This server is no proxy: ask for a path that begins with a slash."
TWICE = "This request has a header Host or Origin twice: send each once."
BODY_TOO_LARGE = "This request is larger than {limit} MiB, which is the most that is taken here: send less at once."
HEADERS_TOO_LARGE = "The headers of this request are larger than 32 KiB: send fewer, or remove cookies of this site."
BAD_LOGIN = (
    "--login (SHARED_ATTENTION_LOGIN) is no list of name:password: give both, separated by a colon, such as ada:1815."
)
LOG_IN = "This server needs a login: log in on its page, or give name and password with auth=(name, password)."
NOT_HERE = "There is nothing at this address: docs/api.md lists what programs may call."
ONLY_GET = "This address can only be read: use GET."
NO_METRICS = "Metrics are shown to the machine that the server runs on, and with a login to whoever has it (HTTP Basic): ask from there."
SERVER_STOPS = "The server was stopped: start it again, or come back later."
OPEN_TO_ALL = (
    "it listens on {address}, where others can reach it, and nothing says who may: give --login name:password, or "
    "--hosts with the names that browsers may call it by"
)
SERVED = "{title} {version} is at {address} (Ctrl-C ends it)"
STOPPED = "Stopped."
ENDED_BY_ITSELF = "The server ended by itself."
