//! Colour conversion, a pixel at a time.

/// Brightness and two differences of colour to red, green and blue.
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
