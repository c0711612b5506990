/** Names and numbers of the kernel interface, for tests. */
export { backingMap, DeviceIoctl, InitFlag, NotifyCode, Opcode, OpenFlag } from '#rootfs/protocol/fuse.ts';
export type { InitFlagName, NotifyName, OpcodeName } from '#rootfs/protocol/fuse.ts';
export type { RequestRecord, Rule } from '#rootfs/protocol/requests.ts';
export type { FdSource, InitReply } from '#rootfs/protocol/server-calls.ts';

/** Of `fuse_setattr_in.valid` (include/uapi/linux/fuse.h): the file is an open one, whose handle the request names. */
export const FATTR_FH = 1 << 6;
