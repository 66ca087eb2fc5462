"""The hours of the calendar, drawn: too many for a template of their own each."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from daemon_app.tiles.calendar import Cell

register = template.Library()

CURRENT = SafeString(' aria-current="true"')


@register.simple_tag
def hour_cell(cell: Cell, chosen: int | None = None) -> SafeString:
    """Return one hour of a heatmap: a link to its starts, where there are any."""
    is_chosen = cell.hour == chosen
    state = f" {cell.state}" if cell.state else ""
    classes = f"h l{cell.level}{state}{' chosen' if is_chosen else ''}"
    if cell.count:
        inside = format_html(
            '<a href="?{}" title="{}"{}><span aria-hidden="true">{}</span>'
            '<span class="sr-only">{}</span></a>',
            cell.query,
            cell.words,
            CURRENT if is_chosen else "",
            cell.short,
            cell.words,
        )
    else:
        inside = format_html('<span class="sr-only">{}</span>', cell.words)
    return format_html(
        '<td role="cell" data-hour="{:02}" class="{}">{}</td>', cell.hour, classes, inside
    )
