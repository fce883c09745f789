//! What an image costs in tokens: by its size and the scheme of the model.
//!
//! Sizes are read from the head of the image data alone. An image that lies elsewhere, or whose
//! size cannot be told, costs as much as the largest one would.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::encoding::{bare_name, is_new_claude};

/// The part of the base64 text that is decoded to find the size.
const HEAD_CHARS: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    pub width: u32,
    pub height: u32,
}

/// How closely a model looks at an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Auto,
    Low,
    High,
    Original,
}

/// How a model counts images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageScheme {
    /// A fixed part, and one part for each tile of 512 pixels.
    Tiles { base: u32, tile: u32 },
    /// Patches of 32 pixels, times a factor.
    Patches {
        factor_permille: u32,
        high: Budget,
        original: Budget,
        auto_is_original: bool,
    },
    /// Patches of 28 pixels.
    Claude(Budget),
    /// The same for each image.
    Flat(u32),
}

/// An image is made smaller until it keeps both bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    pub edge: u32,
    pub patches: u32,
}

const LOW: Budget = Budget {
    edge: 512,
    patches: 256,
};
const OLD_PATCHES: Budget = Budget {
    edge: 2048,
    patches: 1536,
};
const WIDE: Budget = Budget {
    edge: 2048,
    patches: 6144,
};
const HIGH: Budget = Budget {
    edge: 2048,
    patches: 2500,
};
const ORIGINAL: Budget = Budget {
    edge: 6000,
    patches: 10_000,
};
/// Published as without a cap; this is what the largest images accepted come to.
const UNCAPPED: Budget = Budget {
    edge: u32::MAX,
    patches: 30_000,
};

impl ImageScheme {
    pub fn of(model: &str) -> Self {
        let name = bare_name(model);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let uniform = |factor_permille, budget| Self::Patches {
            factor_permille,
            high: budget,
            original: budget,
            auto_is_original: false,
        };
        let recent = |original, auto_is_original| Self::Patches {
            factor_permille: 1200,
            high: HIGH,
            original,
            auto_is_original,
        };
        match () {
            () if starts(&["gpt-4o-mini"]) => Self::Tiles {
                base: 2833,
                tile: 5667,
            },
            () if starts(&["gpt-4.1-mini"]) => uniform(1620, WIDE),
            () if starts(&["gpt-5-mini"]) => uniform(1620, OLD_PATCHES),
            () if starts(&["gpt-5-nano", "gpt-4.1-nano"]) => uniform(2460, OLD_PATCHES),
            () if starts(&["o4-mini"]) => uniform(1720, OLD_PATCHES),
            () if starts(&["gpt-5.2"]) => uniform(1200, WIDE),
            () if starts(&["gpt-5.4"]) => recent(ORIGINAL, false),
            () if starts(&["gpt-5.5"]) => recent(ORIGINAL, true),
            () if starts(&["gpt-5.6", "gpt-6"]) => recent(UNCAPPED, true),
            () if starts(&["gpt-5"]) => Self::Tiles {
                base: 70,
                tile: 140,
            },
            () if starts(&["o1", "o3"]) => Self::Tiles {
                base: 75,
                tile: 150,
            },
            () if starts(&["gpt-", "chatgpt-"]) => Self::Tiles {
                base: 85,
                tile: 170,
            },
            () if is_new_claude(&name) => Self::Claude(Budget {
                edge: 2576,
                patches: 4784,
            }),
            () if starts(&["claude"]) => Self::Claude(Budget {
                edge: 1568,
                patches: 1568,
            }),
            () => Self::Flat(1120),
        }
    }

    /// The tokens of an image; of the largest possible one without `size`.
    pub fn tokens(self, size: Option<Dimensions>, detail: Detail) -> u32 {
        match self {
            Self::Tiles { base, .. } if detail == Detail::Low => base,
            Self::Tiles { base, tile } => base + tile * size.map_or(8, tiles),
            Self::Patches {
                factor_permille,
                high,
                original,
                auto_is_original,
            } => {
                let budget = match detail {
                    Detail::Low => LOW,
                    Detail::Original => original,
                    Detail::Auto if auto_is_original => original,
                    Detail::Auto | Detail::High => high,
                };
                let patches = size.map_or(budget.most(32), |size| budget.patches_of(size, 32));
                (patches * factor_permille).div_ceil(1000)
            }
            Self::Claude(budget) => size.map_or(budget.patches, |size| budget.patches_of(size, 28)),
            Self::Flat(tokens) => tokens,
        }
    }
}

impl Budget {
    /// The patches of the largest image that keeps the budget.
    fn most(self, side: u32) -> u32 {
        let across = self.edge.div_ceil(side);
        across.saturating_mul(across).min(self.patches)
    }

    fn patches_of(self, image: Dimensions, side: u32) -> u32 {
        let (width, height) = fit(image, self.edge);
        let side = u64::from(side);
        let most = u64::from(self.patches);
        let patches = width.div_ceil(side) * height.div_ceil(side);
        if patches <= most {
            return u32::try_from(patches).unwrap_or(self.patches);
        }
        let area = side * side * most;
        let (width, height) = (
            (area * width / height).isqrt(),
            (area * height / width).isqrt(),
        );
        let (across, down) = ((width / side).max(1), (height / side).max(1));
        // The smaller scale of the two that align an edge with whole patches.
        let aligned = if across * height <= down * width {
            across * (height * across).div_ceil(width.max(1)).max(1)
        } else {
            down * (width * down).div_ceil(height.max(1)).max(1)
        };
        u32::try_from(aligned.min(most)).unwrap_or(self.patches)
    }
}

/// Tiles of 512 pixels after the image was fitted into 2048 x 2048 with a short side of 768.
fn tiles(size: Dimensions) -> u32 {
    let (mut width, mut height) = fit(size, 2048);
    let short = width.min(height);
    if short > 768 {
        (width, height) = (width * 768 / short, height * 768 / short);
    }
    u32::try_from(width.div_ceil(512) * height.div_ceil(512)).unwrap_or(8)
}

/// The size made smaller until its longer side is `edge`; at least one pixel.
fn fit(size: Dimensions, edge: u32) -> (u64, u64) {
    let (width, height) = (u64::from(size.width.max(1)), u64::from(size.height.max(1)));
    let (long, edge) = (width.max(height), u64::from(edge));
    if long <= edge {
        return (width, height);
    }
    ((width * edge / long).max(1), (height * edge / long).max(1))
}

/// The size of the PNG, JPEG, GIF or WebP image that `base64` begins.
pub fn dimensions(base64: &str) -> Option<Dimensions> {
    let head = base64.as_bytes().get(..base64.len().min(HEAD_CHARS))?;
    let bytes = if head.len() == HEAD_CHARS {
        STANDARD_NO_PAD.decode(head).ok()?
    } else {
        STANDARD
            .decode(head)
            .or_else(|_| STANDARD_NO_PAD.decode(head))
            .ok()?
    };
    let size = imagesize::blob_size(&bytes).ok()?;
    Some(Dimensions {
        width: u32::try_from(size.width).ok()?,
        height: u32::try_from(size.height).ok()?,
    })
}

#[cfg(test)]
mod tests;
