import { OpenFlag, type InitFlagName } from '#rootfs/protocol/fuse.ts';
import type { PassthroughAbi } from '#rootfs/protocol/server-calls.ts';

/** What a generation of the interface does, as data: tests name a member instead of a kernel version. */
export interface Expectations {
  readonly abi: PassthroughAbi;
  /** Registration on a /dev/fuse descriptor that belongs to no mount. */
  readonly unattached: string;
  readonly unattachedBadPointer: string;
  readonly notNegotiated: string;
  readonly badPointer: string;
  readonly reservedField: string;
  /** The eight bytes at the end of the argument, when they are not 0. The 2021 series never reads them. */
  readonly padding: string;
  /** Known number, wrong size or direction. */
  readonly wrongSize: string;
  readonly foreignMagic: string;
  readonly unknownNumber: string;
  readonly badFd: string;
  readonly pathOnlyFd: string;
  readonly directory: string;
  readonly symbolicLink: string;
  readonly characterDevice: string;
  readonly pipe: string;
  readonly socket: string;
  readonly eventfd: string;
  /** A filesystem that is as deep as it may be itself. */
  readonly tooDeep: string;
  /** A file of procfs, which counts as deep as can be. The 2021 series looks at its operations first. */
  readonly procFile: string;
  /** The server says how deep its filesystem counts; without that it is the maximum as soon as the feature is on. */
  readonly hasMaxStackDepth: boolean;
  /** Each open(2) opens the backing file anew with the opener's flags; else all use the registered file as it is. */
  readonly reopensBackingFile: boolean;
  /** `fuse_open_out.open_flags` of an answer with an id; the id alone is enough for the 2021 series. */
  readonly passthroughFlag: number;
  /** open(2) when the answer names an id that does not exist. */
  readonly unknownIdAtOpen: string;
  /** One registration serves any number of opens until it is closed. */
  readonly idsAreReusable: boolean;
  /** BACKING_CLOSE exists. */
  readonly hasClose: boolean;
  /** Registering needs CAP_SYS_ADMIN in the initial user namespace. */
  readonly unprivileged: string;
  /** A cached open beside a passthrough open of the same inode. */
  readonly cachedBesidePassthrough: string;
  /** The feature is refused together with FUSE_WRITEBACK_CACHE. */
  readonly excludesWritebackCache: boolean;
  /** A mapping of a passthrough file is one of the backing file. */
  readonly mapsBackingFile: boolean;
  /** Synchronous I/O heeds the O_DIRECT of the open, and not only that of the registered file. */
  readonly heedsDirect: boolean;
  /** Whose path /proc/PID/maps shows for a mapping in passthrough mode. */
  readonly mappingPath: 'fuse' | 'backing';
  /** After a write SEEK_END asks the server; else the size is the backing file's until attributes are asked for. */
  readonly asksSizeAfterWrite: boolean;
  /** The next stat after a read asks the server for the access time. */
  readonly readMakesAtimeStale: boolean;
  /** A write looks for setuid bits and file capabilities as FUSE sees them, and has the server remove them. */
  readonly removesPrivileges: boolean;
  /** The kernel keeps cached and passthrough opens of one file apart. */
  readonly hasIoModes: boolean;
  /** FUSE_NOTIFY_RESEND, which is in Linux since 6.9. */
  readonly resend: string;
  /** Mounting FUSE idmapped when its server allows it, which is in Linux since 6.12. */
  readonly idmappedFuse: string;
  /** FUSE_STATX, which is in Linux since 6.6. */
  readonly asksTimeOfBirth: boolean;
  /** ioctls about verity bring to the server what their arguments point to, in Linux since 6.10. */
  readonly passesVerity: boolean;
  /** overlayfs with `lowerdir=a::b`, in Linux since 6.5, `uuid=on`, since 6.6, and whiteouts as attributes, since 6.7. */
  readonly overlaysWithDataLayers: boolean;
  /** What INIT offers of every server at least, the feature itself apart. */
  readonly offers: readonly InitFlagName[];
}

/** What both generations offer (fuse_send_init). */
const OFFERED_BY_ALL: readonly InitFlagName[] = [
  'ASYNC_READ',
  'POSIX_LOCKS',
  'ATOMIC_O_TRUNC',
  'EXPORT_SUPPORT',
  'BIG_WRITES',
  'DONT_MASK',
  'SPLICE_WRITE',
  'SPLICE_MOVE',
  'SPLICE_READ',
  'FLOCK_LOCKS',
  'HAS_IOCTL_DIR',
  'AUTO_INVAL_DATA',
  'DO_READDIRPLUS',
  'READDIRPLUS_AUTO',
  'ASYNC_DIO',
  'WRITEBACK_CACHE',
  'NO_OPEN_SUPPORT',
  'PARALLEL_DIROPS',
  'HANDLE_KILLPRIV',
  'POSIX_ACL',
  'ABORT_ERROR',
  'MAX_PAGES',
  'CACHE_SYMLINKS',
  'NO_OPENDIR_SUPPORT',
  'EXPLICIT_INVAL_DATA',
  'HANDLE_KILLPRIV_V2',
  'SETXATTR_EXT',
  'INIT_EXT',
  'SECURITY_CTX',
  'HAS_EXPIRE_ONLY',
];

const BACKING_ID: Expectations = {
  abi: 'backing-id',
  unattached: 'EPERM',
  unattachedBadPointer: 'EPERM',
  notNegotiated: 'EPERM',
  badPointer: 'EFAULT',
  reservedField: 'EINVAL',
  padding: 'EINVAL',
  wrongSize: 'ENOTTY',
  foreignMagic: 'ENOTTY',
  unknownNumber: 'ENOTTY',
  badFd: 'EBADF',
  pathOnlyFd: 'ok',
  directory: 'EISDIR',
  symbolicLink: 'EINVAL',
  characterDevice: 'EINVAL',
  pipe: 'EINVAL',
  socket: 'EINVAL',
  eventfd: 'EINVAL',
  tooDeep: 'ELOOP',
  procFile: 'ELOOP',
  hasMaxStackDepth: true,
  reopensBackingFile: true,
  passthroughFlag: OpenFlag.PASSTHROUGH,
  unknownIdAtOpen: 'EIO',
  idsAreReusable: true,
  hasClose: true,
  unprivileged: 'EPERM',
  cachedBesidePassthrough: 'EIO',
  excludesWritebackCache: true,
  mapsBackingFile: true,
  heedsDirect: true,
  mappingPath: 'fuse',
  asksSizeAfterWrite: true,
  readMakesAtimeStale: true,
  removesPrivileges: true,
  hasIoModes: true,
  resend: 'ok',
  idmappedFuse: 'ok',
  asksTimeOfBirth: true,
  passesVerity: true,
  overlaysWithDataLayers: true,
  offers: [
    ...OFFERED_BY_ALL,
    'CREATE_SUPP_GROUP',
    'DIRECT_IO_ALLOW_MMAP',
    'NO_EXPORT_SUPPORT',
    'HAS_RESEND',
    'ALLOW_IDMAP',
  ],
};

/** The 2021 series: V12's answers. */
const SINGLE_USE: Expectations = {
  abi: 'fd',
  unattached: 'EINVAL',
  unattachedBadPointer: 'EFAULT',
  notNegotiated: 'EPERM',
  badPointer: 'EFAULT',
  reservedField: 'EINVAL',
  padding: 'ok',
  wrongSize: 'ok',
  foreignMagic: 'EINVAL',
  unknownNumber: 'ENOTTY',
  badFd: 'EBADF',
  pathOnlyFd: 'EBADF',
  directory: 'EBADF',
  symbolicLink: 'EBADF',
  characterDevice: 'ok',
  pipe: 'ok',
  socket: 'ok',
  eventfd: 'EBADF',
  tooDeep: 'EINVAL',
  procFile: 'EBADF',
  hasMaxStackDepth: false,
  reopensBackingFile: false,
  passthroughFlag: 0,
  unknownIdAtOpen: 'ok',
  idsAreReusable: false,
  hasClose: false,
  unprivileged: 'ok',
  cachedBesidePassthrough: 'ok',
  excludesWritebackCache: false,
  mapsBackingFile: true,
  heedsDirect: false,
  mappingPath: 'backing',
  asksSizeAfterWrite: false,
  readMakesAtimeStale: false,
  removesPrivileges: false,
  hasIoModes: false,
  resend: 'EINVAL',
  idmappedFuse: 'EINVAL',
  asksTimeOfBirth: false,
  passesVerity: false,
  overlaysWithDataLayers: false,
  offers: OFFERED_BY_ALL,
};

/** What the profile says of the kernel. */
export interface KernelInterface {
  readonly abi: PassthroughAbi;
  /** `kernelFeatures` of the profile. */
  readonly features: Readonly<Record<string, string | number | boolean>>;
}

/** V11 is expected to be judged by V12's rules, and only excused from what it never claimed to have. */
export function expectationsFor({ abi, features }: KernelInterface): Expectations {
  const generation = abi === 'fd' ? SINGLE_USE : BACKING_ID;
  return { ...generation, mapsBackingFile: features['mmapPassthrough'] !== false };
}
