"""Creates the files that the notebooks use: uv run python -m tests.examples.make_assets"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.plugins.whisper.samples.make import encode, silence, speak

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"

ANNOUNCEMENT = "The library opens at ten on Monday. The reading group meets in the garden."

PAGES = (
    """\
Willow Lane Library: handbook for readers

Opening hours

The library is open from nine in the morning to six in the evening,
Monday to Friday. On Saturday it closes at one. It is closed on
Sunday and on public holidays. The book return box beside the door
can be used at any hour.

Membership

Anyone who lives in the town can join for free. Bring a letter with
your name and address to the front desk. The card is ready at once.
Children under twelve need the signature of a parent. A lost card is
replaced for three euros.""",
    """\
Borrowing

A reader may borrow eight books at a time. Books are lent for four
weeks, films and games for one week. A loan is renewed once, on the
website or by telephone, unless another reader is waiting for it.
Books that come back late cost twenty cents a day, and never more
than five euros in all.

Reserving

A book that is out can be reserved at the front desk. We write to
you when it is here, and keep it on the shelf behind the desk for
seven days.""",
    """\
Printing and copying

There are two printers in the cellar. A page in black and white
costs ten cents, a page in colour costs forty cents. Scanning is
free. Pay with your card at the machine.

Rooms

The garden room seats twelve people and can be booked for two hours
a day by any group that charges no entry. Write to the front desk
three days before. The quiet room on the second floor needs no
booking: no telephones, no food, no talking.""",
)


def pdf(pages: tuple[str, ...]) -> bytes:
    """A PDF with one text per page, in one column of Helvetica; the first line is the title."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = "".join(f"({line}) Tj T*\n" for line in page.splitlines())
        content = f"BT /F1 12 Tf 16 TL 72 760 Td\n{lines}ET\n"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}endstream")
        look = "/MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {look} /Contents {len(objects)} 0 R >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    title = pages[0].splitlines()[0]
    objects.append(f"<< /Title ({title}) >>")
    written = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += f"{number} 0 obj\n{content}\nendobj\n".encode("ascii")
    table = "0000000000 65535 f \n" + "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"<< /Size {size} /Root 1 0 R /Info {len(objects)} 0 R >>"
    return written + f"xref\n0 {size}\n{table}trailer\n{trailer}\nstartxref\n{len(written)}\n%%EOF\n".encode("ascii")


def main() -> None:
    (NOTEBOOKS / "handbook.pdf").write_bytes(pdf(PAGES))
    spoken = np.concatenate([silence(0.3), speak(ANNOUNCEMENT), silence(0.3)])
    (NOTEBOOKS / "announcement.mp3").write_bytes(encode(spoken, "mp3"))


if __name__ == "__main__":
    main()
