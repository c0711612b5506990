import { concat, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { Opcode, OpenFlag, type InitFlagName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, nextRequest } from '../lib/raw-server.ts';

/** Requests and answers of lengths that are seldom. */

const PAGE = 4096;
const ENOENT = -2;
/** `fuse_ioctl_in` and `fuse_ioctl_out`. Bytes. */
const IOCTL_IN = 32;
const IOCTL_OUT = 16;

/** _IOC(direction, 'f', 1, bytes) of asm-generic/ioctl.h: 1 gives, 2 takes. */
function ioctlNumber(direction: 1 | 2 | 3, bytes: number): number {
  return direction * 2 ** 30 + bytes * 2 ** 16 + 0x6601;
}

guestTest(
  'what is shorter than the header of an answer is refused, and answers nothing',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const hold = await fuse.hold('LOOKUP');
    const asking = client.errno.stat({ path: fuse.file('f') });
    const request = await hold.arrived();
    for (const length of [1, 4, 8, 15]) {
      const bytes = new Uint8Array(length);
      bytes[0] = length;
      t.is(await fuse.server.writeDevice(bytes), 'EINVAL', `${length} bytes`);
    }
    t.is(await fuse.waiting(), 1);
    await hold.release(request);
    t.is(await asking, 'ok');
  },
);

/** What the server has room for: the least that it may. */
const ROOM = 8192;

for (const [bytes, outcome] of [
  [ROOM - 40 - IOCTL_IN, 'EPERM'],
  [ROOM - 40 - IOCTL_IN + 1, 'EIO'],
  [12_000, 'EIO'],
] as const) {
  const what = outcome === 'EIO' ? 'is EIO, for it is more than the server has room for' : 'fits';
  guestTest(`an ioctl with ${bytes} bytes ${what}`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { maxWrite: 4096 } });
    await using client = await guest.client();
    await using server = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    const arg = pattern(bytes);
    const calling = client.errno.ioctl({ fd, request: ioctlNumber(1, bytes), arg });
    t.is(await fuse.untilWaiting(1), 1);
    if (outcome === 'EIO') {
      t.is(await server.errno.read({ fd: device, count: ROOM }), 'EAGAIN', 'nothing that can be read');
    } else {
      const raw = await server.read({ fd: device, count: ROOM });
      t.is(raw.length, ROOM);
      t.deepEqual(raw.subarray(40 + IOCTL_IN), arg);
      const unique = new DataView(raw.buffer, raw.byteOffset).getBigUint64(8, true);
      t.is(await answerRequest(server, device, { unique, error: -1 }), 'ok');
    }
    t.is(await calling, outcome);
    t.is(await fuse.waiting(), 0);
    await fuse.abort();
  });
}

guestTest(
  'an answer to an ioctl may have less data than asked for, and not less than its own',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const room = 64;
    const data = pattern(room, 9);
    for (const [length, refused, errno] of [
      [0, 'EINVAL', 'EIO'],
      [8, 'EINVAL', 'EIO'],
      [IOCTL_OUT - 1, 'EINVAL', 'EIO'],
      [IOCTL_OUT, null, 'ok'],
      [IOCTL_OUT + 10, null, 'ok'],
      [IOCTL_OUT + room, null, 'ok'],
      // There is a page for it, but it is not what was asked for.
      [IOCTL_OUT + room + 1, null, 'EIO'],
      [IOCTL_OUT + PAGE, null, 'EIO'],
      [IOCTL_OUT + PAGE + 1, 'EINVAL', 'EIO'],
    ] as const) {
      const body = concat(u32(3), u32(0), u32(0), u32(0), data, new Uint8Array(PAGE)).subarray(0, length);
      const takeBack = await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body } });
      const after = await fuse.position();
      const call = { fd, request: ioctlNumber(2, room), arg: new Uint8Array(room) };
      if (errno === 'ok') {
        const { ret, arg } = await client.ioctl(call);
        t.is(ret, 3);
        const had = length - IOCTL_OUT;
        t.deepEqual(arg, concat(data.subarray(0, had), new Uint8Array(room - had)), `${length} bytes`);
      } else {
        t.is(await client.errno.ioctl(call), errno, `${length} bytes`);
      }
      const [request] = await fuse.requests({ opcode: 'IOCTL', after });
      t.is(request?.reply?.refused, refused, `${length} bytes: what the server is told`);
      await takeBack();
    }
    await client.close({ fd });
  },
);

/** Calls that make something, with the bytes of their request before the name `made`. */
const MAKING: readonly (readonly [number, number, (client: Client, path: string) => Promise<string>])[] = [
  [Opcode.MKDIR, 8, (client, path) => client.errno.mkdir({ path })],
  [Opcode.MKNOD, 16, (client, path) => client.errno.mknod({ path, mode: 0o100644 })],
  [Opcode.CREATE, 16, (client, path) => client.errno.open({ path, flags: 'O_RDWR|O_CREAT' })],
];

for (const [addFlags, tail] of [
  [[], new Uint8Array()],
  [['SECURITY_CTX'], concat(u32(8), u32(0))],
] as const satisfies readonly (readonly [readonly InitFlagName[], Uint8Array])[]) {
  const what = tail.length === 0 ? 'without SECURITY_CTX' : 'with SECURITY_CTX';
  const says = tail.length === 0 ? 'say nothing of' : 'say that there are no';
  guestTest(`${what} requests that make something ${says} labels of the file (B25)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { addFlags } });
    await using client = await guest.client();
    await using server = await guest.client();
    const device = await fuse.server.lendDevice(server);
    await fuse.server.kill('SIGKILL');
    for (const [opcode, before, call] of MAKING) {
      const calling = call(client, fuse.file('made'));
      const lookup = await nextRequest(server, device);
      t.is(lookup.opcode, Opcode.LOOKUP);
      await answerRequest(server, device, { unique: lookup.unique, error: ENOENT });
      const request = await nextRequest(server, device);
      t.is(request.opcode, opcode);
      t.is(text(request.args.subarray(before, before + 5)), 'made\0');
      t.deepEqual(request.args.subarray(before + 5), tail, 'what is behind the name');
      t.is(await answerRequest(server, device, { unique: request.unique, error: -1 }), 'ok');
      t.is(await calling, 'EPERM');
    }
  });
}

guestTest('a direct write that takes more buffers than a pipe has is EIO', async (t, guest) => {
  const init = { maxWrite: PAGE } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init, entryValidS: 1000 });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
  await fuse.fail('GETXATTR', 'ENOSYS');
  await using client = await guest.client();
  await using server = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'c', offset: 0 });
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  // Its headers take one buffer, and its data are copied from two pages of the caller to two more.
  for (const buffers of [2, 4]) {
    const [end, fdOut] = await server.pipe({});
    await server.fcntl({ fd: fdOut, cmd: 'F_SETPIPE_SZ', arg: buffers * PAGE });
    const calling = client.errno.pwrite({ fd, data: pattern(PAGE), offset: 0, misalign: 1000 });
    t.is(await fuse.untilWaiting(1), 1);
    const splice = { fdIn: device, fdOut, length: 1 << 16 };
    if (buffers === 2) {
      t.is(await server.errno.splice(splice), 'EIO', 'what the server is told');
      t.is(await calling, 'EIO', 'what the writer is told');
    } else {
      const length = await server.splice(splice);
      const raw = await server.read({ fd: end, count: 1 << 16 });
      t.is(raw.length, length);
      t.deepEqual(raw.subarray(length - PAGE), pattern(PAGE), 'the data');
      const unique = new DataView(raw.buffer, raw.byteOffset).getBigUint64(8, true);
      t.is(await answerRequest(server, device, { unique, error: -1 }), 'ok');
      t.is(await calling, 'EPERM');
    }
    for (const each of [end, fdOut]) await server.close({ fd: each });
  }
  await fuse.abort();
});
