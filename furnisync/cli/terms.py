"""What Etsy asks of whoever uses its API, in plain words."""

from rich.console import Console

TERMS = """\
Before you collect: what Etsy's API Terms of Use ask of you (version of June 2025, as quoted by \
several sources; read the present ones on etsy.com/legal/api).
- Collecting Etsy content for analytics, machine learning, training of models or licensing needs \
Etsy's written permission: ask developer@etsy.com.
- Listing content that you display must be no older than 6 hours, other content 24 hours; store \
nothing longer than necessary and no member data beyond need.
- One key for each application.
The term 'Etsy' is a trademark of Etsy, Inc. This application uses the Etsy API but is not \
endorsed or certified by Etsy, Inc."""


def print_terms(console: Console) -> None:
    """Say it once, before the first run with a real key."""
    console.print(TERMS, style="yellow", highlight=False)
    console.print()
