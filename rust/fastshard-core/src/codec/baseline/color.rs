//! Conversion of Y, Cb, Cr to RGB (JFIF), a pixel at a time.
//!
//! The factors 1.402, 0.34414, 0.71414 and 1.772 have 16 fraction bits, and each sum is rounded once. libjpeg reads the
//! same numbers from tables.

/// Converts pixels from Y, Cb and Cr to red, green and blue.
#[inline(always)]
pub(super) fn to_rgb([y, cb, cr]: [&[u8]; 3], out: &mut [[u8; 3]]) {
    const HALF: i32 = 1 << 15;
    for (((&y, &cb), &cr), out) in y.iter().zip(cb).zip(cr).zip(out) {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        let red = (91_881 * cr + HALF) >> 16;
        let green = (-22_554 * cb - 46_802 * cr + HALF) >> 16;
        let blue = (116_130 * cb + HALF) >> 16;
        *out = [y + red, y + green, y + blue].map(|value| value.clamp(0, 255) as u8);
    }
}
