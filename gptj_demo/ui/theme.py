"""The theme, defined once: colours, radii, fonts and spacing, light and dark.

Everything here becomes a CSS variable (`model_ink` is `--model-ink`), also the names that are ours;
`assets/page.css` uses the variables and defines no colours. The fonts are those of the visitor's
system; none is downloaded.
"""

from __future__ import annotations

from gradio.themes import Base, Color, Size

SYSTEM_FACE = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FACE = ("ui-monospace", "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", "monospace")
READING_FACE = (
    "'Iowan Old Style', Charter, 'Bitstream Charter', 'Palatino Linotype', 'Source Serif 4', "
    "'Noto Serif', Georgia, 'DejaVu Serif', serif"
)

BLUE_INK = Color(
    "#f1f4fd", "#e1e8fb", "#c6d2f7", "#a2b6f0", "#7590e5", "#4a6ad4", "#2b4cbb", "#213d9b",
    "#1d3379", "#1a2b60", "#101b3f", name="blue-ink",
)  # fmt: skip
STONE = Color(
    "#fafaf8", "#f3f3ef", "#e5e5df", "#d2d2ca", "#a3a39b", "#6c6d68", "#53544f", "#3c3e3d",
    "#2a2c2e", "#1d1f22", "#131518", name="stone",
)  # fmt: skip
TEXT = Size("11px", "12px", "13px", "14px", "16px", "22px", "26px", name="text")
RADIUS = Size("2px", "3px", "4px", "6px", "8px", "10px", "12px", name="radius")

# name: (light, dark)
OWN_COLOURS = {
    "desk": ("#f3f3ef", "#131518"),
    "sheet": ("#ffffff", "#1b1d21"),
    "hairline": ("#dfdfd8", "#303338"),
    "person_ink": ("#1d1f22", "#e7e5df"),
    "model_ink": (BLUE_INK.c600, "#9db6ff"),
    "track": ("#dfdfd8", "#3a3d43"),
    "quiet_ink": ("#5c5e5a", "#a5a69f"),
    "button_fill": (BLUE_INK.c600, BLUE_INK.c500),
    "button_fill_hover": (BLUE_INK.c700, "#4160c9"),
    "filled_ink": ("#ffffff", "#ffffff"),
    "shadow": ("rgb(0 0 0 / 14%)", "rgb(0 0 0 / 30%)"),
    "veil": ("rgb(0 0 0 / 40%)", "rgb(0 0 0 / 55%)"),
    "selection": (f"{BLUE_INK.c600}33", f"{BLUE_INK.c400}66"),
    "warning_ink": ("#8f3d0c", "#f3b183"),
    "warning_fill": ("#fdf3ea", "#33251b"),
    "ready_dot": ("#2f7d4f", "#6cc08d"),
    "more_likely": ("#2b7bd9", "#5b9df2"),
    "less_likely": ("#d9760b", "#e8923a"),
    "busy_dot": ("#b7791f", "#e0ae5a"),
    # a token's probability, from likely to unlikely: lightness and hue both change, and the inks
    # keep a contrast of 4.5 on all of them
    "token_1": ("#edf2fb", "#112853"),
    "token_2": ("#f5e6a0", "#154322"),
    "token_3": ("#f8cb6c", "#564900"),
    "token_4": ("#f0a04c", "#8b4500"),
    "token_5": ("#e37d41", "#b8392b"),
    "token_person_ink": ("#1d1f22", "#f3f1ec"),
    "token_model_ink": ("#14235f", "#dde6ff"),
}


class Paper(Base):
    """The page's theme: the text on a sheet, the model's words in blue, tools small and grey."""

    def __init__(self) -> None:
        super().__init__(
            primary_hue=BLUE_INK,
            secondary_hue=BLUE_INK,
            neutral_hue=STONE,
            text_size=TEXT,
            radius_size=RADIUS,
            font=SYSTEM_FACE,
            font_mono=MONO_FACE,
        )
        self.name = "paper"
        for name, (light, dark) in OWN_COLOURS.items():
            setattr(self, name, light)
            setattr(self, name + "_dark", dark)
        self.reading_face = READING_FACE
        self.gap = "16px"
        super().set(
            body_background_fill="*desk",
            body_background_fill_dark="*desk",
            body_text_color="*person_ink",
            body_text_color_dark="*person_ink",
            body_text_color_subdued="*quiet_ink",
            body_text_color_subdued_dark="*quiet_ink",
            background_fill_primary="*sheet",
            background_fill_primary_dark="*sheet",
            background_fill_secondary="*desk",
            background_fill_secondary_dark="*desk",
            border_color_primary="*hairline",
            border_color_primary_dark="*hairline",
            block_background_fill="transparent",
            block_background_fill_dark="transparent",
            block_border_width="0px",
            block_border_width_dark="0px",
            block_shadow="none",
            block_shadow_dark="none",
            block_padding="0px",
            block_label_background_fill="transparent",
            block_label_background_fill_dark="transparent",
            block_label_text_color="*person_ink",
            block_label_text_color_dark="*person_ink",
            block_title_text_color="*person_ink",
            block_title_text_color_dark="*person_ink",
            block_title_text_weight="600",
            block_title_text_size="*text_sm",
            block_info_text_color="*quiet_ink",
            block_info_text_color_dark="*quiet_ink",
            block_info_text_size="*text_xs",
            input_background_fill="*sheet",
            input_background_fill_dark="*sheet",
            input_border_color="*hairline",
            input_border_color_dark="*hairline",
            input_border_width="1px",
            input_border_width_dark="1px",
            input_border_color_focus="*model_ink",
            input_border_color_focus_dark="*model_ink",
            input_placeholder_color="*quiet_ink",
            input_placeholder_color_dark="*quiet_ink",
            input_shadow="none",
            input_shadow_focus="none",
            slider_color="*button_fill",
            slider_color_dark="*model_ink",
            button_secondary_background_fill="transparent",
            button_secondary_background_fill_dark="transparent",
            button_secondary_border_color="*hairline",
            button_secondary_border_color_dark="*hairline",
            button_secondary_text_color="*person_ink",
            button_secondary_text_color_dark="*person_ink",
            layout_gap="*gap",
            panel_background_fill="transparent",
            panel_background_fill_dark="transparent",
        )
