use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(model: &str, size: (u32, u32), detail: Detail, tokens: u32) {
    let size = Dimensions {
        width: size.0,
        height: size.1,
    };
    assert_eq!(
        ImageScheme::of(model).tokens(Some(size), detail),
        tokens,
        "{model} {size:?}"
    );
}

#[test]
fn tiles_are_counted_after_scaling_down() {
    // 1024 x 1024 becomes 768 x 768, four tiles; 2048 x 4096 becomes 768 x 1536, six.
    check("gpt-4o", (1024, 1024), Detail::High, 85 + 4 * 170);
    check("gpt-4o", (2048, 4096), Detail::High, 85 + 6 * 170);
    check("gpt-4o", (4096, 8192), Detail::Low, 85);
    check("gpt-4o", (100, 100), Detail::Auto, 85 + 170);
    check("gpt-4o-mini", (100, 100), Detail::Auto, 2833 + 5667);
    check("gpt-5", (512, 513), Detail::Auto, 70 + 2 * 140);
}

#[test]
fn patches_are_counted_within_their_budget() {
    // 1024 patches fit; 1800 x 2400 shrinks to 33 x 44 patches.
    check("gpt-5-mini", (1024, 1024), Detail::Auto, 1659);
    check(
        "gpt-5-mini",
        (1800, 2400),
        Detail::Auto,
        (33 * 44 * 162u32).div_ceil(100),
    );
    check("gpt-5.2", (64, 33), Detail::High, 5);
    check("gpt-5.4", (4096, 4096), Detail::Auto, 3000);
    check("gpt-5.5", (3200, 3200), Detail::Auto, 12_000);
    check("gpt-5.4", (3200, 3200), Detail::Low, 308);
}

#[test]
fn claude_counts_small_patches() {
    check("claude-sonnet-4-5", (280, 281), Detail::Auto, 10 * 11);
    check("claude-opus-4-8", (2576, 2576), Detail::Auto, 69 * 69);
}

#[test]
fn unknown_size_costs_as_much_as_the_largest() {
    let most = |model, detail| ImageScheme::of(model).tokens(None, detail);
    assert_eq!(most("gpt-4o", Detail::High), 85 + 8 * 170);
    assert_eq!(most("gpt-5.4", Detail::High), 3000);
    assert_eq!(most("gpt-5.5", Detail::Original), 12_000);
    assert_eq!(most("gpt-6-astra", Detail::Auto), 36_000);
    assert_eq!(most("claude-opus-4-5", Detail::Auto), 1568);
}

/// The head of a PNG of that size.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 6, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn size_is_read_from_the_head_of_the_data() {
    let expected = Some(Dimensions {
        width: 640,
        height: 480,
    });
    let mut long = png(640, 480);
    long.resize(1 << 20, 0);
    assert_eq!(dimensions(&STANDARD.encode(png(640, 480))), expected);
    assert_eq!(dimensions(&STANDARD_NO_PAD.encode(png(640, 480))), expected);
    assert_eq!(dimensions(&STANDARD.encode(long)), expected);
    let gif = [b"GIF89a".as_slice(), &[0x80, 2, 0xe0, 1, 0, 0, 0]].concat();
    assert_eq!(dimensions(&STANDARD.encode(gif)), expected);
    let jpeg = [
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0, 0xff, 0xc0, 0, 11, 8, 1, 0xe0, 2, 0x80, 3, 1, 1,
    ];
    assert_eq!(dimensions(&STANDARD.encode(jpeg)), expected);
    let webp = [
        b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".as_slice(),
        &[0x7f, 2, 0, 0xdf, 1, 0, 0, 0, 0, 0],
    ];
    assert_eq!(dimensions(&STANDARD.encode(webp.concat())), expected);
}

#[test]
fn size_of_no_image_is_unknown() {
    for text in ["", "!", "AAAA", "aGVsbG8gd29ybGQ=", "\u{e9}\u{e9}"] {
        assert_eq!(dimensions(text), None);
    }
}

const MODELS: [&str; 9] = [
    "gpt-4o",
    "gpt-4.1-mini",
    "gpt-5",
    "gpt-5-nano",
    "gpt-5.2",
    "gpt-5.4",
    "gpt-6-sol",
    "claude-opus-4-8",
    "claude-3-haiku",
];

proptest! {
    #[test]
    fn no_image_costs_more_than_one_of_unknown_size(
        width in any::<u32>(), height in any::<u32>(), shift in 0..32u32, model in 0..9usize,
    ) {
        let scheme = ImageScheme::of(MODELS[model]);
        let size = Dimensions { width: width >> shift, height: height >> (31 - shift) };
        for detail in [Detail::Auto, Detail::Low, Detail::High, Detail::Original] {
            let tokens = scheme.tokens(Some(size), detail);
            prop_assert!(tokens > 0 && tokens <= scheme.tokens(None, detail));
        }
    }

    #[test]
    fn any_bytes_are_looked_at_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), head in 0..6usize,
    ) {
        let heads: [&[u8]; 6] =
            [b"", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBPVP8 ", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"];
        dimensions(&STANDARD.encode([heads[head], &bytes].concat()));
    }
}
