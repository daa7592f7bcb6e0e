//! Taking place and camera out of pictures before they are sent.
//!
//! JPEG, PNG and WebP are rewritten part by part without decoding a pixel. What is needed to show
//! the picture stays, with the colour profile and the orientation; everything else goes: EXIF
//! (position, time, device, owner, thumbnail), XMP, IPTC, comments, maker's additions, and what
//! hides behind the end of the picture (a second picture with its own EXIF, a film).

use bytes::Bytes;
use img_parts::jpeg::{Jpeg, JpegSegment};
use img_parts::png::{Png, PngChunk};
use img_parts::riff::{RiffChunk, RiffContent};
use img_parts::webp::WebP;

/// The largest picture that is rewritten; it is held in memory twice.
pub const PICTURE_BYTES: u64 = 32 * 1024 * 1024;
/// How much of a file's beginning [`Kind::of`] looks at.
pub const HEAD_BYTES: usize = 32;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// A picture or film that may carry place and camera, and that is not rewritten.
    Opaque(&'static str),
    /// Anything else.
    Other,
}

/// The picture could not be read, so nothing can be promised about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the picture is damaged, so its metadata cannot be removed")]
pub struct Unreadable;

impl Kind {
    /// By the first [`HEAD_BYTES`] bytes (fewer of a shorter file).
    pub fn of(head: &[u8]) -> Self {
        let brand = head.get(8..12).unwrap_or_default();
        match head {
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Self::Png,
            [b'R', b'I', b'F', b'F', ..] if brand == b"WEBP" => Self::WebP,
            [b'I', b'I', 0x2a, 0, ..] | [b'M', b'M', 0, 0x2a, ..] => Self::Opaque("TIFF or raw"),
            [b'G', b'I', b'F', b'8', ..] => Self::Opaque("GIF"),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Self::Opaque(match brand {
                b"heic" | b"heix" | b"heif" | b"mif1" | b"msf1" | b"hevc" => "HEIC",
                b"avif" | b"avis" => "AVIF",
                _ => "MP4 or QuickTime",
            }),
            _ => Self::Other,
        }
    }

    /// Whether [`strip`] rewrites it.
    pub fn is_rewritten(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::WebP)
    }
}

/// The picture without metadata. Other kinds come back as they are.
pub fn strip(kind: Kind, picture: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
    match kind {
        Kind::Jpeg => strip_jpeg(picture.into()),
        Kind::Png => strip_png(picture.into()),
        Kind::WebP => strip_webp(picture.into()),
        Kind::Opaque(_) | Kind::Other => Ok(picture),
    }
}

// JPEG (ITU-T T.81, JFIF, EXIF)

const SOS: u8 = 0xda;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
const APP14: u8 = 0xee;
const APP15: u8 = 0xef;
const COM: u8 = 0xfe;
const EXIF: &[u8] = b"Exif\0\0";
const ICC: &[u8] = b"ICC_PROFILE\0";
const JFIF: &[u8] = b"JFIF\0";

fn strip_jpeg(picture: Bytes) -> Result<Vec<u8>, Unreadable> {
    let mut jpeg = Jpeg::from_bytes(picture).map_err(|_| Unreadable)?;
    let exif = jpeg
        .segments()
        .iter()
        .filter(|segment| segment.marker() == APP1)
        .find_map(|segment| segment.contents().strip_prefix(EXIF));
    let orientation = exif.and_then(orientation_of);
    let mut kept: Vec<JpegSegment> = Vec::new();
    for segment in jpeg.segments() {
        let (marker, contents) = (segment.marker(), segment.contents());
        match marker {
            APP0 => {
                if let Some(jfif) = jfif_without_thumbnail(contents) {
                    kept.push(JpegSegment::new_with_contents(APP0, jfif));
                }
            }
            APP2 if contents.starts_with(ICC) => kept.push(segment.clone()),
            // How the colours are encoded (Adobe); without it they come out wrong.
            APP14 if contents.starts_with(b"Adobe") => kept.push(segment.clone()),
            APP0..=APP15 | COM => {}
            SOS => {
                let scans = clean_scans(&scan_bytes(segment));
                let scans = JpegSegment::new_with_entropy(SOS, contents.clone(), scans.into());
                kept.push(scans);
            }
            _ => kept.push(segment.clone()),
        }
    }
    if !kept.iter().any(|segment| segment.marker() == SOS) {
        return Err(Unreadable);
    }
    *jpeg.segments_mut() = kept;
    if let Some(orientation) = orientation {
        let after_jfif = jpeg
            .segments()
            .iter()
            .position(|segment| segment.marker() != APP0)
            .unwrap_or_default();
        let mut contents = EXIF.to_vec();
        contents.extend(orientation_only(orientation));
        let exif = JpegSegment::new_with_contents(APP1, contents.into());
        jpeg.segments_mut().insert(after_jfif, exif);
    }
    Ok(jpeg.encoder().bytes().into())
}

/// The JFIF header with a thumbnail of 0 by 0; an extension with a thumbnail gives nothing.
fn jfif_without_thumbnail(contents: &Bytes) -> Option<Bytes> {
    let head = contents.get(..12).filter(|head| head.starts_with(JFIF))?;
    Some([head, &[0, 0]].concat().into())
}

/// The bytes of a scan segment behind its header: scans, and all that follows.
fn scan_bytes(segment: &JpegSegment) -> Bytes {
    let whole = segment.clone().encoder().bytes();
    // Marker and length, then the header.
    whole.slice(whole.len().min(segment.contents().len().saturating_add(4))..)
}

/// Scans up to the end of the picture, without the application segments and comments that may
/// stand between them.
fn clean_scans(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let marker = after.first().copied();
        match (*first, marker) {
            // The end of the picture, and whatever somebody hung on behind it.
            (0xff, Some(0xd9)) => {
                out.extend([0xff, 0xd9]);
                break;
            }
            // A stuffed byte, a restart, or a fill byte before a marker.
            (0xff, None | Some(0x00 | 0x01 | 0xd0..=0xd7)) => {
                let length = rest.len().min(2);
                out.extend(rest.iter().take(length));
                rest = rest.get(length..).unwrap_or_default();
            }
            (0xff, Some(0xff)) => rest = after,
            (0xff, Some(marker)) => {
                let length = rest.get(2..4).and_then(|length| length.try_into().ok());
                let length = usize::from(u16::from_be_bytes(length.unwrap_or_default()));
                let end = rest.len().min(length.saturating_add(2).max(4));
                let (segment, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                if !matches!(marker, APP0..=APP15 | COM) {
                    out.extend(segment);
                }
                rest = behind;
            }
            (byte, _) => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

// PNG (third edition)

/// Chunks that say how the picture looks or moves. Others are kept only if critical.
const PNG_KEPT: [&[u8; 4]; 17] = [
    b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD",
    b"hIST", b"pHYs", b"sPLT", b"acTL", b"fcTL", b"fdAT", b"IEND",
];

fn strip_png(picture: Bytes) -> Result<Vec<u8>, Unreadable> {
    let mut png = Png::from_bytes(picture).map_err(|_| Unreadable)?;
    let end = png
        .chunks()
        .iter()
        .position(|chunk| chunk.kind() == *b"IEND")
        .ok_or(Unreadable)?;
    png.chunks_mut().truncate(end.saturating_add(1));
    let orientation = png
        .chunk_by_type(*b"eXIf")
        .and_then(|chunk| orientation_of(chunk.contents()));
    png.chunks_mut().retain(|chunk| {
        let kind = chunk.kind();
        let is_critical = kind.first().is_some_and(u8::is_ascii_uppercase);
        is_critical || PNG_KEPT.contains(&&kind)
    });
    // Without a header nobody can show it, and the orientation would have no place.
    let header = png
        .chunks()
        .iter()
        .position(|chunk| chunk.kind() == *b"IHDR")
        .ok_or(Unreadable)?;
    if let Some(orientation) = orientation {
        let exif = PngChunk::new(*b"eXIf", orientation_only(orientation).into());
        png.chunks_mut().insert(header.saturating_add(1), exif);
    }
    Ok(png.encoder().bytes().into())
}

// WebP (RFC 9649)

const WEBP_KEPT: [&[u8; 4]; 7] = [
    b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP",
];
const WEBP_HAS_EXIF: u8 = 0b1000;
const WEBP_HAS_XMP: u8 = 0b100;

fn strip_webp(picture: Bytes) -> Result<Vec<u8>, Unreadable> {
    let mut webp = WebP::from_bytes(picture).map_err(|_| Unreadable)?;
    let orientation = webp
        .chunk_by_id(*b"EXIF")
        .and_then(|chunk| chunk.content().data())
        .and_then(|exif| orientation_of(exif.strip_prefix(EXIF).unwrap_or(exif)));
    webp.chunks_mut()
        .retain(|chunk| WEBP_KEPT.contains(&&chunk.id()));
    let mut is_extended = false;
    for chunk in webp.chunks_mut() {
        if chunk.id() != *b"VP8X" {
            continue;
        }
        is_extended = true;
        if let RiffContent::Data(data) = chunk.content_mut() {
            let mut header = data.to_vec();
            if let Some(flags) = header.first_mut() {
                *flags &= !(WEBP_HAS_EXIF | WEBP_HAS_XMP);
                if orientation.is_some() {
                    *flags |= WEBP_HAS_EXIF;
                }
            }
            *data = header.into();
        }
    }
    if let Some(orientation) = orientation.filter(|_| is_extended) {
        let exif = RiffContent::Data(orientation_only(orientation).into());
        webp.chunks_mut().push(RiffChunk::new(*b"EXIF", exif));
    }
    Ok(webp.encoder().bytes().into())
}

// EXIF (TIFF 6.0)

const ORIENTATION_TAG: u16 = 0x0112;

/// The orientation of the first image directory, where it is not the ordinary one.
fn orientation_of(tiff: &[u8]) -> Option<u16> {
    let is_little = match tiff.get(..4)? {
        [b'I', b'I', 0x2a, 0] => true,
        [b'M', b'M', 0, 0x2a] => false,
        _ => return None,
    };
    let u16_at = |at: usize| -> Option<u16> {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let offset: [u8; 4] = tiff.get(4..8)?.try_into().ok()?;
    let directory = usize::try_from(if is_little {
        u32::from_le_bytes(offset)
    } else {
        u32::from_be_bytes(offset)
    })
    .ok()?;
    let count = usize::from(u16_at(directory)?);
    (0..count).find_map(|index| {
        let entry = directory
            .checked_add(2)?
            .checked_add(index.checked_mul(12)?)?;
        if u16_at(entry)? != ORIENTATION_TAG {
            return None;
        }
        u16_at(entry.checked_add(8)?).filter(|value| (2..=8).contains(value))
    })
}

/// A TIFF with this one entry.
fn orientation_only(orientation: u16) -> Vec<u8> {
    let mut tiff = b"II\x2a\0\x08\0\0\0\x01\0".to_vec();
    tiff.extend(ORIENTATION_TAG.to_le_bytes());
    // Type SHORT, one value, the value in four bytes; and no further directory.
    tiff.extend([3, 0, 1, 0, 0, 0]);
    tiff.extend(orientation.to_le_bytes());
    tiff.extend([0, 0, 0, 0, 0, 0]);
    tiff
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"SECRET-PLACE-48.8584N";

    fn segment(marker: u8, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len() + 2).unwrap();
        [&[0xff, marker][..], &length.to_be_bytes(), contents].concat()
    }

    /// EXIF with make, orientation and a GPS directory, written by hand, big-endian.
    fn exif(orientation: u16) -> Vec<u8> {
        let mut tiff = b"MM\0\x2a\0\0\0\x08".to_vec();
        let make_at = 8 + 2 + 3 * 12 + 4;
        let gps_at = make_at + SECRET.len();
        let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
            [
                &tag.to_be_bytes()[..],
                &kind.to_be_bytes(),
                &count.to_be_bytes(),
                &value,
            ]
            .concat()
        };
        let long = |value: usize| u32::try_from(value).unwrap().to_be_bytes();
        let [high, low] = orientation.to_be_bytes();
        tiff.extend(3_u16.to_be_bytes());
        tiff.extend(entry(
            0x010f,
            2,
            u32::try_from(SECRET.len()).unwrap(),
            long(make_at),
        ));
        tiff.extend(entry(ORIENTATION_TAG, 3, 1, [high, low, 0, 0]));
        tiff.extend(entry(0x8825, 4, 1, long(gps_at)));
        tiff.extend([0; 4]);
        tiff.extend(SECRET);
        tiff.extend(1_u16.to_be_bytes());
        tiff.extend(entry(0x0001, 2, 2, *b"N\0\0\0"));
        tiff.extend([0; 4]);
        tiff
    }

    fn jpeg(orientation: u16) -> Vec<u8> {
        let jfif = b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01RGB";
        let scan = [0x12, 0xff, 0x00, 0x34, 0xff, 0xd0, 0x56];
        [
            vec![0xff, 0xd8],
            segment(APP0, jfif),
            segment(APP1, &[EXIF, &exif(orientation)].concat()),
            segment(APP1, &[b"http://ns.adobe.com/xap/1.0/\0", SECRET].concat()),
            segment(0xed, &[b"Photoshop 3.0\0", SECRET].concat()),
            segment(APP2, &[ICC, b"\x01\x01profile"].concat()),
            segment(APP2, &[b"MPF\0", SECRET].concat()),
            segment(APP14, b"Adobe\0\x64\0\0\0\0\x01"),
            segment(COM, SECRET),
            segment(0xdb, &[0; 65]),
            segment(0xc0, &[8, 0, 1, 0, 1, 1, 1, 0x11, 0]),
            segment(SOS, &[1, 1, 0, 0, 63, 0]),
            scan.to_vec(),
            segment(COM, SECRET),
            segment(SOS, &[1, 1, 0, 0, 63, 0]),
            scan.to_vec(),
            vec![0xff, 0xd9],
            // A second picture behind the end, with its own EXIF.
            vec![0xff, 0xd8],
            segment(APP1, &[EXIF, &exif(1)].concat()),
            vec![0xff, 0xd9],
        ]
        .concat()
    }

    fn has(haystack: &[u8], needle: &[u8]) -> bool {
        haystack.windows(needle.len()).any(|w| w == needle)
    }

    #[test]
    fn a_photo_loses_place_and_camera_and_keeps_colour_and_orientation() {
        let photo = jpeg(6);
        assert_eq!(Kind::of(&photo), Kind::Jpeg);
        let clean = strip(Kind::Jpeg, photo).unwrap();
        assert!(!has(&clean, SECRET));
        assert!(!has(&clean, b"Photoshop") && !has(&clean, b"adobe.com") && !has(&clean, b"MPF"));
        assert!(!has(&clean, b"RGB"), "the JFIF thumbnail");
        assert!(has(&clean, b"\x01\x01profile") && has(&clean, b"Adobe"));
        assert!(has(&clean, &[0x12, 0xff, 0x00, 0x34, 0xff, 0xd0, 0x56]));
        assert!(clean.ends_with(&[0x56, 0xff, 0xd9]));
        let exif = Jpeg::from_bytes(clean.clone().into()).unwrap();
        let exif = exif
            .segments()
            .iter()
            .find_map(|segment| segment.contents().strip_prefix(EXIF).map(<[u8]>::to_vec));
        assert_eq!(orientation_of(&exif.unwrap()), Some(6));
        // Once clean, it stays as it is.
        assert_eq!(strip(Kind::Jpeg, clean.clone()).unwrap(), clean);
    }

    #[test]
    fn an_upright_photo_has_no_exif_left_at_all() {
        let clean = strip(Kind::Jpeg, jpeg(1)).unwrap();
        assert!(!has(&clean, b"Exif"));
    }

    fn png_chunk(kind: &[u8; 4], contents: &[u8]) -> Vec<u8> {
        PngChunk::new(*kind, contents.to_vec().into())
            .encoder()
            .bytes()
            .to_vec()
    }

    #[test]
    fn png_keeps_pixels_only() {
        let png = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            png_chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]),
            png_chunk(b"eXIf", &exif(3)),
            png_chunk(b"tEXt", SECRET),
            png_chunk(b"iTXt", SECRET),
            png_chunk(b"tIME", SECRET),
            png_chunk(b"gAMA", &[0, 0, 1, 2]),
            png_chunk(b"IDAT", b"pixels"),
            png_chunk(b"IEND", b""),
            SECRET.to_vec(),
        ]
        .concat();
        let clean = strip(Kind::of(&png), png).unwrap();
        assert!(!has(&clean, SECRET));
        assert!(has(&clean, b"gAMA") && has(&clean, b"IDATpixels"));
        let png = Png::from_bytes(clean.into()).unwrap();
        let exif = png.chunk_by_type(*b"eXIf").unwrap();
        assert_eq!(orientation_of(exif.contents()), Some(3));
    }

    #[test]
    fn a_png_without_a_header_is_damaged_whatever_it_says_of_its_orientation() {
        let png = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            png_chunk(b"eXIf", &exif(3)),
            png_chunk(b"IEND", b""),
        ]
        .concat();
        assert_eq!(strip(Kind::Png, png), Err(Unreadable));
    }

    #[test]
    fn webp_loses_exif_and_xmp_and_says_so() {
        let chunk = |id: &[u8; 4], data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap();
            let mut out = [&id[..], &length.to_le_bytes(), data].concat();
            if data.len() % 2 == 1 {
                out.push(0);
            }
            out
        };
        let flags = WEBP_HAS_EXIF | WEBP_HAS_XMP;
        let body = [
            b"WEBP".to_vec(),
            chunk(b"VP8X", &[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            chunk(b"VP8L", &[0x2f, 0, 0, 0, 0, 1]),
            chunk(b"EXIF", &exif(1)),
            chunk(b"XMP ", SECRET),
        ]
        .concat();
        let webp = chunk(b"RIFF", &body);
        let clean = strip(Kind::of(&webp), webp).unwrap();
        assert!(!has(&clean, SECRET));
        assert!(!has(&clean, b"EXIF") && !has(&clean, b"XMP "));
        let webp = WebP::from_bytes(clean.into()).unwrap();
        let header = webp
            .chunk_by_id(*b"VP8X")
            .unwrap()
            .content()
            .data()
            .unwrap();
        assert_eq!(header[0], 0);
    }

    #[test]
    fn what_is_no_picture_is_not_touched_and_what_is_damaged_is_refused() {
        let text = b"just a text".to_vec();
        assert_eq!(Kind::of(&text), Kind::Other);
        assert_eq!(strip(Kind::Other, text.clone()).unwrap(), text);
        assert_eq!(
            strip(Kind::Jpeg, vec![0xff, 0xd8, 0xff, 0xe1]),
            Err(Unreadable)
        );
        assert_eq!(Kind::of(b"\0\0\0\x18ftypheic\0\0"), Kind::Opaque("HEIC"));
        assert_eq!(Kind::of(b""), Kind::Other);
    }
}
