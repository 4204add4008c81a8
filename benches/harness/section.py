"""A section of the results, and the formatting of its figures in Markdown."""

from dataclasses import dataclass, field


@dataclass
class Section:
    """One section of the results, ready to be printed."""

    title: str
    text: str
    # The section's part of the chart: {panel: {contender: value}}.
    chart: dict = field(default_factory=dict)
    measured: str = ""

    @property
    def markdown(self):
        """The section in Markdown."""
        when = f"\n_{self.measured}_\n" if self.measured else ""
        return f"## {self.title}\n{when}\n{self.text}\n"


def table(header, rows):
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def aim(what, measured, met):
    """A line that compares a figure with its aim."""
    return f"- {what}: {measured} — **{'met' if met else 'missed'}**"


def number(value):
    """Formats a number with three significant digits, large ones without decimals."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
