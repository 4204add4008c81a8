//! One instance of the list, as C sees it.

use std::ffi::c_char;

use crate::instances::{Instance, Text};

/// One instance of an account, as the API's list shows it. 256 bytes without pointers and secrets:
/// an instance can be copied and kept, and there is nothing to free.
///
/// Times are seconds since 1970-01-01T00:00:00Z. The API writes most of them without a time zone:
/// they are read as UTC. 0: the API gives no time, or gives 0001-01-01T00:00:00.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct greenapi_instance {
    /// The instance's id.
    pub id: i64,
    /// When it was created.
    pub created: i64,
    /// When it was deleted. (The list shows deleted instances for three months.)
    pub deleted: i64,
    /// When it expires or expired.
    pub expires: i64,
    /// GREENAPI_INSTANCE_… added up.
    pub flags: u32,
    /// One of greenapi_state: GREENAPI_STATE_NOT_ASKED, unless GREENAPI_LIST_STATES was given and
    /// the instance is not deleted.
    pub state: i32,
    /// The instance's messenger: "whatsapp", "telegram", "v3" (MAX), or another word of the API;
    /// NUL-terminated UTF-8, as are `tariff` and `name`.
    pub r#type: [c_char; 16],
    /// The instance's tariff.
    pub tariff: [c_char; 32],
    /// The instance's name; a longer name is cut between characters. The name may contain any
    /// character but NUL, line ends and terminal escapes included.
    pub name: [c_char; 168],
}

const _: () = assert!(size_of::<greenapi_instance>() == 256);

/// `flags`: the instance has been deleted.
pub const GREENAPI_INSTANCE_DELETED: u32 = 1;
/// `flags`: the list calls the instance expired. A fresh instance can show as expired for an hour.
pub const GREENAPI_INSTANCE_EXPIRED: u32 = 2;
/// `flags`: the instance costs nothing.
pub const GREENAPI_INSTANCE_FREE: u32 = 4;
/// `flags`: the instance was made by a partner.
pub const GREENAPI_INSTANCE_PARTNER: u32 = 8;

impl greenapi_instance {
    pub(super) fn of(instance: &Instance) -> Self {
        let flags = [
            (instance.is_deleted, GREENAPI_INSTANCE_DELETED),
            (instance.is_expired, GREENAPI_INSTANCE_EXPIRED),
            (instance.is_free, GREENAPI_INSTANCE_FREE),
            (instance.is_partner, GREENAPI_INSTANCE_PARTNER),
        ];
        Self {
            id: instance.id,
            created: instance.created,
            deleted: instance.deleted,
            expires: instance.expires,
            flags: flags
                .into_iter()
                .map(|(is_set, flag)| if is_set { flag } else { 0 })
                .sum(),
            state: instance.state as i32,
            r#type: chars(&instance.kind),
            tariff: chars(&instance.tariff),
            name: chars(&instance.name),
        }
    }
}

fn chars<const N: usize>(text: &Text<N>) -> [c_char; N] {
    text.0.map(|byte| byte as c_char)
}
