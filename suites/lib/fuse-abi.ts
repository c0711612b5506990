/** Names and numbers of the kernel interface, for tests. */
export { backingMap, DeviceIoctl, InitFlag, NotifyCode, Opcode, OpenFlag } from '#rootfs/protocol/fuse.ts';
export type { InitFlagName, NotifyName, OpcodeName } from '#rootfs/protocol/fuse.ts';
export type { RequestRecord, Rule } from '#rootfs/protocol/requests.ts';
export type { FdSource, InitReply } from '#rootfs/protocol/server-calls.ts';
