import { createHash } from 'node:crypto';
import { concat, pattern } from '../lib/bytes.ts';
import { ioctlOn32, needs32Bit } from '../lib/calls-32.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import type { Rule } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { IOCTL_IN as IN, IOCTL_OUT as OUT, ioctlAnswer, ioctlNumber, RETRY } from '../lib/ioctl-answer.ts';

/** ioctl(2) of an open file is the server's business, also where its data go past the server. */

/** include/uapi/linux/fuse.h */
const COMPAT = 1 << 0;
const FOR_32_BITS = 1 << 3;
const OF_DIRECTORY = 1 << 4;
/** linux/fs.h */
const GETFLAGS = 0x8008_6601;
const SETFLAGS = 0x4008_6602;
const FSGETXATTR = 0x801c_581f;
const FSSETXATTR = 0x401c_5820;
const FSXATTR_BYTES = 28;
/** Of an open that is the kernel’s own: nothing else, not even O_LARGEFILE. */
const O_RDONLY = 0;

function sha1(data: Uint8Array): string {
  return createHash('sha1').update(data).digest('hex');
}

function withBody(body: Uint8Array): Rule {
  return { match: { opcode: 'IOCTL' }, action: { do: 'body', body } };
}

const LENGTHS: Readonly<Record<string, { direction: number; bytes: number }>> = {
  'without data': { direction: 0, bytes: 0 },
  'with data in': { direction: IN, bytes: 8 },
  'with data out': { direction: OUT, bytes: 8 },
  'with data in and out': { direction: IN | OUT, bytes: 8 },
  'with data in of two pages': { direction: IN, bytes: 5000 },
  'with data of two pages': { direction: IN | OUT, bytes: 5000 },
};

for (const [what, { direction, bytes }] of Object.entries(LENGTHS)) {
  guestTest(`an ioctl ${what} goes to the server as its number says, and comes back`, async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const { reply } = await fuse.waitFor('OPEN');
    const given = pattern(bytes, 3);
    const out = pattern(bytes, 5);
    const comes = (direction & OUT) !== 0;
    await fuse.rule(withBody(ioctlAnswer(42, comes ? out : undefined)));
    const cmd = ioctlNumber(direction, bytes);
    const { ret, arg } = await client.ioctl({ fd, request: cmd, arg: bytes === 0 ? 77 : given });
    const [request] = await fuse.requests('IOCTL');
    const [inSize, outSize] = [(direction & IN) === 0 ? 0 : bytes, comes ? bytes : 0];
    t.like(
      request?.args,
      {
        fh: reply?.open?.fh,
        flags: 0,
        cmd,
        in_size: inSize,
        out_size: outSize,
        sha1: sha1(given.subarray(0, inSize)),
      },
      'what the server gets',
    );
    if (bytes === 0) t.is(String(request?.args['arg']), '77', 'the argument as it is');
    t.is(ret, 42, 'what the server says');
    t.deepEqual(arg, bytes === 0 ? null : comes ? out : given, 'what the caller has then');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

/** What a 32-bit program returns of it. */
const ENOTTY = 25;
const EIGHT = ioctlNumber(IN | OUT, 8);
/** Its buffer in the kernel has nothing of the caller. */
const EIGHT_OUT = ioctlNumber(OUT, 8);

/** Answers to an ioctl of eight bytes out, with or without as many in, and what it gives or has then. */
const ANSWERS: readonly (readonly [string, Rule['action'], string | Uint8Array])[] = [
  ['ENOSYS', { do: 'error', errno: 'ENOSYS' }, 'ENOTTY'],
  ['the result ENOSYS', { do: 'body', body: ioctlAnswer(-38) }, 'ENOTTY'],
  ['EPERM', { do: 'error', errno: 'EPERM' }, 'EPERM'],
  ['the result EPERM', { do: 'body', body: ioctlAnswer(-1) }, 'EPERM'],
  ['RETRY', { do: 'body', body: ioctlAnswer(0, undefined, RETRY) }, 'EIO'],
  ['more data than asked for', { do: 'body', body: ioctlAnswer(0, pattern(9, 5)) }, 'EIO'],
  [
    'fewer data than asked for',
    { do: 'body', body: ioctlAnswer(0, pattern(3, 5)) },
    concat(pattern(3, 5), pattern(8, 3).subarray(3)),
  ],
  ['no data', { do: 'body', body: ioctlAnswer(0) }, pattern(8, 3)],
];

/** The errno, or what the caller has. */
async function outcome(
  client: Client,
  fd: number,
  request: number = EIGHT,
): Promise<string | Uint8Array | null> {
  try {
    return (await client.ioctl({ fd, request, arg: pattern(8, 3) })).arg;
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

guestTest('an ioctl gives what the server says, and EIO for what it must not say', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  for (const [what, action, expected] of ANSWERS) {
    const takeBack = await fuse.rule({ match: { opcode: 'IOCTL' }, action });
    t.deepEqual(await outcome(client, fd), expected, `the answer is ${what}`);
    t.deepEqual(await outcome(client, fd, EIGHT_OUT), expected, `${what}, and nothing was sent`);
    await takeBack();
  }
  t.is((await fuse.requests('IOCTL')).length, 2 * ANSWERS.length, 'asked each time');
  await client.close({ fd });
});

for (const [minor, expected, flags] of [
  [18, pattern(8, 5), [OF_DIRECTORY]],
  [17, 'ENOTTY', []],
] as const) {
  const how = flags.length === 0 ? 'is not sent' : 'is sent as such';
  guestTest(`an ioctl of a directory ${how} to a server of version 7.${minor}`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { minor } });
    await using client = await guest.client();
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    await fuse.rule(withBody(ioctlAnswer(0, pattern(8, 5))));
    t.deepEqual(await outcome(client, fd), expected);
    const sent = await fuse.requests('IOCTL');
    t.deepEqual(
      sent.map(({ args }) => args['flags']),
      flags,
      'the requests',
    );
    await client.close({ fd });
  });
}

guestTest(
  'who has no business on the mount sends no ioctl, of a directory or of a file',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', allowOther: false });
    await using client = await guest.client();
    await fuse.rule(withBody(ioctlAnswer(0)));
    const fds: number[] = [];
    for (const flags of ['O_RDONLY|O_DIRECTORY', 'O_TMPFILE|O_RDWR']) {
      const fd = await client.open({ path: fuse.path, flags });
      t.is(
        await client.errno.ioctl({ fd, request: ioctlNumber(0, 0) }),
        'ok',
        `${flags}: who has mounted it`,
      );
      fds.push(fd);
    }
    await client.setCredentials({ uid: 4000, gid: 4000 });
    const after = await fuse.position();
    for (const [at, fd] of fds.entries()) {
      for (const request of [ioctlNumber(0, 0), GETFLAGS]) {
        const arg = new Uint8Array(8);
        t.is(await client.errno.ioctl({ fd, request, arg }), 'EACCES', `${at}: ${request.toString(16)}`);
      }
    }
    t.deepEqual(await fuse.opcodes({ opcode: ['IOCTL', 'OPEN', 'OPENDIR'], after }), []);
    for (const fd of fds) await client.close({ fd });
  },
);

guestTest('an ioctl of a 32-bit program says that it is one', async (t, guest) => {
  await needs32Bit(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await fuse.rule(withBody(ioctlAnswer(6)));
  const request = ioctlNumber(IN, 8);
  const arg = pattern(8);
  for (const [path, open, flags] of [
    [fuse.file('f'), 'O_RDWR', COMPAT | FOR_32_BITS],
    [fuse.path, 'O_RDONLY|O_DIRECTORY', COMPAT | FOR_32_BITS | OF_DIRECTORY],
  ] as const) {
    const fd = await client.open({ path, flags: open });
    const after = await fuse.position();
    t.is(await ioctlOn32(guest, client, { pid: client.pid, fd }, { request, arg }), 6, path);
    const { args } = await fuse.waitFor({ opcode: 'IOCTL', after });
    t.like(args, { cmd: request, flags, in_size: 8, out_size: 0, sha1: sha1(arg) }, path);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'an ioctl of a directory by a 32-bit program is not sent to a server of version 7.17',
  async (t, guest) => {
    await needs32Bit(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { minor: 17 } });
    await using client = await guest.client();
    await fuse.rule(withBody(ioctlAnswer(6)));
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const call = { request: ioctlNumber(IN, 8), arg: pattern(8) };
    t.is(await ioctlOn32(guest, client, { pid: client.pid, fd }, call), -ENOTTY);
    t.deepEqual(await fuse.requests('IOCTL'), []);
    await client.close({ fd });
  },
);

/** What the IOCTLs of an open of the kernel's own are, and that each open ends. */
async function asked(fuse: FuseMount, after: number): Promise<unknown[]> {
  const sent = await fuse.requests({ opcode: 'IOCTL', after });
  return sent.map(({ args }) => [
    args['cmd'],
    args['flags'],
    args['in_size'],
    args['out_size'],
    args['sha1'],
  ]);
}

guestTest(
  'file attributes of ioctl are asked of the server by an open of the kernel’s own',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.mkdir({ path: fuse.backing('d') });
    const none = sha1(new Uint8Array());
    for (const [name, opens, flags] of [
      ['f', ['OPEN', 'RELEASE'], 0],
      ['d', ['OPENDIR', 'RELEASEDIR'], OF_DIRECTORY],
    ] as const) {
      const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
      const after = await fuse.position();
      // FS_NODUMP_FL
      await fuse.rule(withBody(ioctlAnswer(0, u32(0x40))));
      const got = await client.ioctl({ fd, request: GETFLAGS, arg: new Uint8Array(8) });
      t.deepEqual(got.arg?.subarray(0, 4), u32(0x40), `${name}: flags that the server says`);
      t.deepEqual(await asked(fuse, after), [[GETFLAGS, flags, 0, 4, none]], `${name}: GETFLAGS`);
      const opened = await fuse.waitFor({ opcode: opens[0], after });
      const { args } = await fuse.waitFor({ opcode: 'IOCTL', after });
      t.is(args['fh'], opened.reply?.open?.fh, `${name}: by the handle of that open`);
      t.is(opened.args['flags'], O_RDONLY, `${name}: which is for reading only`);
      const released = await fuse.waitFor({ opcode: opens[1], after });
      t.like(released.args, { fh: args['fh'], flags: O_RDONLY }, `${name}: and ends as such`);
      t.deepEqual(
        await fuse.opcodes({ opcode: [...opens], after }),
        [...opens],
        `${name}: an open of its own, which ends`,
      );

      const before = await fuse.position();
      await fuse.rule(withBody(ioctlAnswer(0)));
      const xattr = concat(u32(0x80), new Uint8Array(FSXATTR_BYTES - 4));
      await fuse.rule({ ...withBody(ioctlAnswer(0, xattr)), times: 1 });
      await client.ioctl({ fd, request: SETFLAGS, arg: concat(u32(0x80), u32(0)) });
      t.deepEqual(
        await asked(fuse, before),
        [
          [FSGETXATTR, flags, 0, FSXATTR_BYTES, none],
          [SETFLAGS, flags, 4, 0, sha1(u32(0x80))],
        ],
        `${name}: what there is, then SETFLAGS`,
      );
      await client.close({ fd });
    }
  },
);

guestTest(
  'file attributes of ioctl are those of files and directories: of a fifo nothing is asked',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.mknod({ path: fuse.file('fifo'), mode: 0o010_600 });
    // Both ends at once: an open of one would wait for the other.
    const fd = await client.open({ path: fuse.file('fifo'), flags: 'O_RDWR' });
    // Nobody is to open the fifo of the server, which would wait as well.
    await fuse.fail('OPEN', 'EIO');
    const after = await fuse.position();
    for (const [request, bytes] of [
      [GETFLAGS, 8],
      [FSGETXATTR, FSXATTR_BYTES],
    ] as const) {
      const arg = new Uint8Array(bytes);
      t.is(await client.errno.ioctl({ fd, request, arg }), 'ENOTTY', request.toString(16));
    }
    t.deepEqual(await fuse.opcodes({ opcode: ['OPEN', 'IOCTL'], after }), []);
    await client.close({ fd });
  },
);

guestTest(
  'further file attributes of ioctl are those of the server, with their project',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    // `struct fsxattr`: xflags (FS_XFLAG_NODUMP, _EXTSIZE, _COWEXTSIZE), extsize, nextents, projid, cowextsize, padding.
    const fsxattr = (extsize: number, projid: number, cowextsize: number): Uint8Array =>
      concat(u32(0x1_0880), u32(extsize), u32(3), u32(projid), u32(cowextsize), new Uint8Array(8));
    const xattr = fsxattr(4096, 4, 8192);
    await fuse.rule(withBody(ioctlAnswer(0, xattr)));
    const got = await client.ioctl({ fd, request: FSGETXATTR, arg: new Uint8Array(FSXATTR_BYTES) });
    t.deepEqual(got.arg, xattr, 'what the server says');

    const after = await fuse.position();
    const changed = fsxattr(16_384, 5, 32_768);
    await fuse.rule(withBody(ioctlAnswer(0)));
    await fuse.rule({ ...withBody(ioctlAnswer(0, xattr)), times: 1 });
    await client.ioctl({ fd, request: FSSETXATTR, arg: changed });
    const [, last] = await asked(fuse, after);
    t.deepEqual(
      last,
      [FSSETXATTR, 0, FSXATTR_BYTES, 0, sha1(changed)],
      'another project, and other extents, are sent',
    );

    for (const [what, action, errno] of [
      ['ENOSYS', { do: 'error', errno: 'ENOSYS' }, 'ENOTTY'],
      ['a result', { do: 'body', body: ioctlAnswer(-1, xattr) }, 'EPERM'],
      ['RETRY', { do: 'body', body: ioctlAnswer(0, xattr, RETRY) }, 'EIO'],
      ['too short', { do: 'body', body: ioctlAnswer(0, xattr.subarray(4)) }, 'EIO'],
    ] as const) {
      await fuse.rule({ match: { opcode: 'IOCTL' }, action });
      const request = { fd, request: FSGETXATTR, arg: new Uint8Array(FSXATTR_BYTES) };
      t.is(await client.errno.ioctl(request), errno, `the answer is ${what}`);
    }
    await client.close({ fd });
  },
);
