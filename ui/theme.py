"""The look: colours, type and spacing as a Gradio theme, and the style sheet that builds on it.

Every colour of the page is a variable set here or at the top of `assets/page.css`, once for light
and once for dark, each text colour at a contrast of 4.5 : 1 or more on its background.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes.utils.colors import Color
from gradio.themes.utils.sizes import Size

ASSETS = Path(__file__).parent / "assets"
STYLE = ASSETS / "page.css"
SCRIPTS = tuple(ASSETS / f"{name}.js" for name in ("page", "focus", "detect", "tooltips"))

# System fonts only: the page makes no request to anybody else.
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")

ACCENT = Color(
    "#ecfbfb", "#cff3f3", "#a3e5e6", "#5fd0d3", "#2cb5ba",
    "#14979d", "#0f7c84", "#0e656d", "#105159", "#10434a", "#082b31",
    name="accent",
)  # fmt: skip
INK = Color(
    "#f5f7f9", "#e9edf1", "#d8dfe6", "#bcc7d1", "#93a1af",
    "#6b7a89", "#526170", "#3b4855", "#26313b", "#151d25", "#0b1015",
    name="ink",
)  # fmt: skip
TYPE = Size(
    name="type", xxs="11px", xs="12px", sm="13px", md="14px", lg="16px", xl="20px", xxl="26px"
)
RADIUS = Size(
    name="radius", xxs="2px", xs="3px", sm="4px", md="6px", lg="8px", xl="10px", xxl="14px"
)


def build_theme() -> gr.themes.Base:
    """Gradio's plain theme in our colours: `name` is for light, `name_dark` for dark."""
    theme = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=INK,
        text_size=TYPE,
        radius_size=RADIUS,
        font=list(SANS),
        font_mono=list(MONO),
    )
    surface = {"light": "#ffffff", "dark": "#121a22"}
    field = {"light": "#f5f7f9", "dark": "#0b1218"}
    line = {"light": "#d8dfe6", "dark": "#243140"}
    theme.set(
        body_background_fill="#f2f5f7",
        body_background_fill_dark="#0a0f14",
        body_text_color="#17212b",
        body_text_color_dark="#e4ebf1",
        body_text_color_subdued="#526170",
        body_text_color_subdued_dark="#9dabb8",
        background_fill_primary=surface["light"],
        background_fill_primary_dark=surface["dark"],
        background_fill_secondary=field["light"],
        background_fill_secondary_dark=field["dark"],
        border_color_primary=line["light"],
        border_color_primary_dark=line["dark"],
        border_color_accent="*primary_600",
        border_color_accent_dark="*primary_400",
        color_accent="*primary_600",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="#10282c",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover="*primary_800",
        link_text_color_hover_dark="*primary_200",
        link_text_color_visited="*primary_700",
        link_text_color_visited_dark="*primary_300",
        block_background_fill=surface["light"],
        block_background_fill_dark=surface["dark"],
        block_border_color=line["light"],
        block_border_color_dark=line["dark"],
        block_border_width="1px",
        block_border_width_dark="1px",
        block_radius="*radius_lg",
        block_shadow="none",
        block_shadow_dark="none",
        block_padding="12px 14px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color_subdued",
        block_label_text_color_dark="*body_text_color_subdued",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_size="*text_sm",
        block_title_text_weight="600",
        block_info_text_size="*text_xs",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        layout_gap="14px",
        form_gap_width="0px",
        input_background_fill=field["light"],
        input_background_fill_dark=field["dark"],
        input_background_fill_focus=surface["light"],
        input_background_fill_focus_dark=field["dark"],
        input_border_color=line["light"],
        input_border_color_dark=line["dark"],
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_dark="none",
        input_shadow_focus="none",
        input_shadow_focus_dark="none",
        input_placeholder_color="#5d6a75",
        input_placeholder_color_dark="#8494a3",
        input_padding="8px 10px",
        input_text_size="*text_md",
        checkbox_label_background_fill=field["light"],
        checkbox_label_background_fill_dark=field["dark"],
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="#17222c",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="#10282c",
        checkbox_label_border_color=line["light"],
        checkbox_label_border_color_dark=line["dark"],
        checkbox_label_border_width="1px",
        checkbox_label_padding="7px 12px",
        checkbox_label_shadow="none",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_500",
        button_large_radius="*radius_md",
        button_medium_radius="*radius_md",
        button_small_radius="*radius_md",
        button_large_text_size="*text_md",
        button_medium_text_size="*text_md",
        button_large_padding="10px 18px",
        button_medium_padding="8px 14px",
        button_border_width="1px",
        button_transform_hover="none",
        button_transform_active="none",
        button_transition="background-color 0.12s ease, border-color 0.12s ease",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_border_color="*primary_600",
        button_primary_border_color_dark="*primary_600",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_primary_shadow="none",
        button_secondary_background_fill=surface["light"],
        button_secondary_background_fill_dark="#17222c",
        button_secondary_background_fill_hover="*neutral_50",
        button_secondary_background_fill_hover_dark="#1d2b37",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#324354",
        button_secondary_text_color="*body_text_color",
        button_secondary_text_color_dark="*body_text_color",
        button_secondary_shadow="none",
        loader_color="*primary_500",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        accordion_text_color="*body_text_color",
        accordion_text_color_dark="*body_text_color",
    )
    return theme


def canvas(value: str = "", **options: Any) -> gr.HTML:
    """A place for HTML of our own, untouched by Gradio's styles for text."""
    return gr.HTML(value, apply_default_css=False, **options)
