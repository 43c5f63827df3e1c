"""The look of gradio's own components: colours come from the variables in assets/style/base.css, so both modes agree."""

import re

import gradio as gr

_ACCENT = gr.themes.Color(
    c50="#fff4ec", c100="#ffe6d3", c200="#ffcba6", c300="#ffa96e", c400="#f58535", c500="#d55e00", c600="#bf5400",
    c700="#9c4400", c800="#7d3700", c900="#662e02", c950="#381800",
)  # fmt: skip

_SAME_IN_BOTH_MODES = {
    "body_background_fill": "var(--ground)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--quiet)",
    "background_fill_primary": "var(--card)",
    "background_fill_secondary": "var(--field)",
    "border_color_primary": "var(--line)",
    "block_background_fill": "transparent",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_info_text_color": "var(--quiet)",
    "block_label_text_color": "var(--ink)",
    "block_title_text_color": "var(--ink)",
    "input_background_fill": "var(--field)",
    "input_background_fill_focus": "var(--card)",
    "input_border_color": "var(--line)",
    "input_border_color_focus": "var(--shared)",
    "input_border_width": "1px",
    "checkbox_label_background_fill": "var(--field)",
    "checkbox_label_background_fill_selected": "var(--shared-tint)",
    "checkbox_label_border_color": "var(--line)",
    "checkbox_label_border_width": "1px",
    "checkbox_label_text_color": "var(--ink)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "slider_color": "var(--shared)",
    "link_text_color": "var(--shared-ink)",
    "button_primary_background_fill": "var(--button)",
    "button_primary_background_fill_hover": "var(--button-hover)",
    "button_primary_text_color": "#ffffff",
    "button_secondary_background_fill": "var(--field)",
    "button_secondary_background_fill_hover": "var(--line)",
    "button_secondary_border_color": "var(--line)",
    "button_secondary_text_color": "var(--ink)",
    "button_cancel_background_fill": "var(--field)",
    "button_cancel_background_fill_hover": "var(--line)",
    "button_cancel_border_color": "var(--line)",
    "button_cancel_text_color": "var(--ink)",
}
_ONE_VALUE = {
    "block_padding": "0px",
    "block_title_text_weight": "600",
    "block_info_text_size": "*text_sm",
    "form_gap_width": "0px",
    "layout_gap": "16px",
    "button_border_width": "1px",
    "button_transition": "none",  # one that may be pressed again is readable at once, not after a fade
}

# The variables mean other colours in dark mode, but only where gradio's dark rules state them again.
_DARK = {f"{name}_dark": value for name, value in _SAME_IN_BOTH_MODES.items()}

# Served from the gradio package. Its semibold files lack most letters, so bold is 700.
_FONT = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
FONT_URLS: list[str] = re.findall(r"url\('([^']+)'\)", _FONT.stylesheet()["css"])

THEME = gr.themes.Base(
    primary_hue=_ACCENT,
    neutral_hue="slate",
    text_size="lg",
    radius_size="md",
    font=[_FONT, "Segoe UI", "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
).set(**_SAME_IN_BOTH_MODES, **_DARK, **_ONE_VALUE)
