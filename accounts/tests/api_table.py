"""What a line of the table of endpoints says; the table is walked by smtpproxy/tests/test_api_table.py.

Each floor has its lines and rows in `<floor>/tests/api_lines.py`: `LINES`, from `METHOD path/{id}` below /api/v1/ to a
Line, and `rows_of(tenant, account)`, one row of each kind of that tenant, found by name.
"""

from dataclasses import dataclass, field
from typing import Any

ROLES = ("owner", "admin", "user", "viewer", "operator")
ALL = "owner admin user viewer operator"


@dataclass(frozen=True)
class Line:
    """`who`: the roles that may; `scopes`: the scopes of an API key that may; `public`: without signing in.

    `row` names the row that is asked for; `body` is what is sent (JSON, or called with the rows of the own tenant);
    `expect` the answer to those who may. Others get 403, and 404 for a row of another tenant. `many` answers a list in
    which no row of another tenant may be.
    """

    who: str = ""
    scopes: str = ""
    row: str = ""
    body: Any = field(default_factory=dict)
    expect: int | set[int] = 200
    public: bool = False
    query: str = ""

    @property
    def expected(self) -> set[int]:
        return self.expect if isinstance(self.expect, set) else {self.expect}
