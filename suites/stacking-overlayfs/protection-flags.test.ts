import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { flagsOf } from '../lib/inode-flags.ts';

/**
 * Files of an overlay that may only grow, or not change at all. The overlay keeps that in an attribute of the upper
 * file: with the flag itself, the upper file could not be given the attribute, or be removed.
 */

const PROTATTR = 'trusted.overlay.protattr';

/** By flag of chattr(1), which is also what the attribute has: what a file with it allows. */
const FLAGS: Readonly<Record<string, { readonly what: string; readonly append: string }>> = {
  a: { what: 'may only grow', append: 'ok' },
  i: { what: 'may not change', append: 'EPERM' },
};

/** Those of FLAGS: a filesystem has others besides. */
const LETTERS = 'ai';

/** STATX_ATTR_APPEND and STATX_ATTR_IMMUTABLE, statx(2). */
const ATTRIBUTES: Readonly<Record<string, number>> = { a: 0x20, i: 0x10 };

/** The same as statx tells it. */
async function attributesOf(guest: TestGuest, path: string): Promise<string> {
  const { stdout } = await guest.run(['xfs_io', '-r', '-c', 'statx -r', path]);
  const attributes = Number(/^stat\.attributes = (0x[\da-f]+|0)$/m.exec(stdout)?.[1]);
  return Object.keys(ATTRIBUTES)
    .filter((flag) => (attributes & (ATTRIBUTES[flag] ?? 0)) !== 0)
    .join('');
}

/** What happens to who wants to change a file. */
async function attempts(client: Client, path: string): Promise<Record<string, string>> {
  return {
    write: await client.errno.open({ path, flags: 'O_RDWR' }),
    append: await client.errno.open({ path, flags: 'O_WRONLY|O_APPEND' }),
    chmod: await client.errno.chmod({ path, mode: 0o600 }),
    truncate: await client.errno.truncate({ path, length: 1 }),
  };
}

const NONE = { write: 'ok', append: 'ok', chmod: 'ok', truncate: 'ok' };

for (const [flag, { what, append }] of Object.entries(FLAGS)) {
  guestTest(`a file of an overlay that ${what} is one until the flag is taken away`, async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f']);
    const refused = { write: 'EPERM', append, chmod: 'EPERM', truncate: 'EPERM' };
    const mark = { path: `${upper}/f`, name: PROTATTR };
    {
      await using overlay = await over(guest, client, layers);
      await guest.run(['chattr', `+${flag}`, overlay.file('f')]);
      t.is(await flagsOf(guest, overlay.file('f'), LETTERS), flag, 'the flag is told');
      t.is(await attributesOf(guest, overlay.file('f')), flag, 'and so it is by statx');
      t.deepEqual(await attempts(client, overlay.file('f')), refused, 'and counts');
      t.is(Buffer.from(await client.getxattr(mark)).toString(), flag, 'it is an attribute of the upper file');
      t.is(await flagsOf(guest, mark.path, LETTERS), '', 'and no flag of the upper file');
    }
    {
      await using overlay = await over(guest, client, layers);
      t.is(await flagsOf(guest, overlay.file('f'), LETTERS), flag, 'mounted again: the flag is told');
      t.deepEqual(await attempts(client, overlay.file('f')), refused, 'mounted again: and counts');
      t.is(await client.errno.unlink({ path: overlay.file('f') }), 'EPERM', 'and it cannot be removed');
      await guest.run(['chattr', `-${flag}`, overlay.file('f')]);
      t.deepEqual(await attempts(client, overlay.file('f')), NONE, 'taken away');
      t.is(await client.errno.getxattr(mark), 'ENODATA', 'taken away: the attribute is gone');
    }
    await using overlay = await over(guest, client, layers);
    t.is(await flagsOf(guest, overlay.file('f'), LETTERS), '', 'mounted again: it is gone');
    t.deepEqual(await attempts(client, overlay.file('f')), NONE, 'mounted again: it is gone');
    t.is(await client.errno.unlink({ path: overlay.file('f') }), 'ok');
  });
}

guestTest(
  'a file of an overlay may have both flags, which are taken away one by one, mounted again too',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [, upper = ''] = layers;
    await fill(client, upper, ['f']);
    const mark = { path: `${upper}/f`, name: PROTATTR };
    for (const [change, flags] of [
      ['+ai', 'ia'],
      ['-a', 'i'],
      ['-i', ''],
    ] as const) {
      await using overlay = await over(guest, client, layers);
      await guest.run(['chattr', change, overlay.file('f')]);
      t.is(await flagsOf(guest, overlay.file('f'), LETTERS), flags, `chattr ${change}`);
      t.is(
        await client.errno.getxattr(mark),
        flags === '' ? 'ENODATA' : 'ok',
        `chattr ${change}: the attribute`,
      );
      await overlay.unmount();
      await using again = await over(guest, client, layers);
      t.is(await flagsOf(guest, again.file('f'), LETTERS), flags, `chattr ${change}, mounted again`);
    }
  },
);

/** By what the attribute has: the flags that the file has of that, in the order of lsattr(1). */
const VALUES: Readonly<Record<string, string>> = {
  a: 'a',
  i: 'i',
  ai: 'ia',
  ia: 'ia',
  '': '',
  x: '',
  ax: '',
  xa: '',
};

guestTest(
  'the attribute of protected files has the letters of their flags, or does not count',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [, upper = ''] = layers;
    for (const [value, flags] of Object.entries(VALUES)) {
      const name = `f-${value}`;
      await fill(client, upper, [name]);
      await client.setxattr({ path: `${upper}/${name}`, name: PROTATTR, data: value });
      {
        await using overlay = await over(guest, client, layers);
        t.is(await flagsOf(guest, overlay.file(name), LETTERS), flags, `“${value}”`);
        const written = await client.errno.truncate({ path: overlay.file(name), length: 1 });
        t.is(written, flags === '' ? 'ok' : 'EPERM', `“${value}”: truncated`);
      }
      await client.unlink({ path: `${upper}/${name}` });
    }
  },
);

guestTest(
  'another flag of a file of an overlay is the upper file’s, and leaves those of the attribute alone',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f', 'g']);
    await using overlay = await over(guest, client, layers);
    const of = async (path: string) => (await guest.run(['lsattr', '-d', path])).stdout.split(' ')[0] ?? '';
    const mark = { path: `${upper}/f`, name: PROTATTR };
    await guest.run(['chattr', '+d', overlay.file('f')]);
    t.regex(await of(`${upper}/f`), /d/, 'a flag of the upper file');
    t.regex(await of(overlay.file('f')), /d/, 'and of the overlay’s');
    t.is(await client.errno.getxattr(mark), 'ENODATA', 'which needs no attribute');
    await guest.run(['chattr', '+a', overlay.file('f')]);
    await guest.run(['chattr', '-d', overlay.file('f')]);
    t.notRegex(await of(overlay.file('f')), /d/);
    t.is(await flagsOf(guest, overlay.file('f'), LETTERS), 'a', 'it stays what it is');
    // Behind the back of the overlay: there is nothing left to remove.
    await client.removexattr(mark);
    await guest.run(['chattr', '-a', overlay.file('f')]);
    t.is(await flagsOf(guest, overlay.file('f'), LETTERS), '', 'taken away');
    t.deepEqual(await attempts(client, overlay.file('f')), NONE, 'taken away');
  },
);

/** FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR (linux/fs.h), and the flags of `struct fsxattr`. */
const [FSGETXATTR, FSSETXATTR, FSXATTR_BYTES] = [0x801c_581f, 0x401c_5820, 28];
const XFLAGS: Readonly<Record<string, number>> = { a: 0x10, i: 0x8 };

guestTest(
  'flags of a file of an overlay are told and taken away by FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR, too',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f']);
    await using overlay = await over(guest, client, layers);
    const path = overlay.file('f');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    for (const [flag, xflag] of Object.entries(XFLAGS)) {
      await guest.run(['chattr', `+${flag}`, path]);
      const told = await client.ioctl({ fd, request: FSGETXATTR, arg: new Uint8Array(FSXATTR_BYTES) });
      const struct = Buffer.from(told.arg ?? []);
      t.is(struct.readUInt32LE(0) & (0x10 | 0x8), xflag, `${flag} is told`);
      struct.writeUInt32LE(struct.readUInt32LE(0) & ~xflag, 0);
      const arg = new Uint8Array(struct);
      t.is(await client.errno.ioctl({ fd, request: FSSETXATTR, arg }), 'ok', `${flag} is taken away`);
      t.is(await flagsOf(guest, path, LETTERS), '', `${flag} is gone`);
      t.is(await client.errno.getxattr({ path: `${upper}/f`, name: PROTATTR }), 'ENODATA', flag);
    }
    await client.close({ fd });
  },
);

guestTest(
  'flags that protect a file of an overlay on XFS are none of the upper file either',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = { upper: await disk.directory('upper'), work: await disk.directory('work') };
    const flags = Object.keys(FLAGS);
    // With a lower file chattr would hand on flags of ext4 that XFS does not know.
    await fill(client, layers.upper, flags);
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    for (const flag of flags) {
      await guest.run(['chattr', `+${flag}`, overlay.file(flag)]);
      t.is(await flagsOf(guest, overlay.file(flag), LETTERS), flag, 'of the file of the overlay');
      t.is(await flagsOf(guest, `${layers.upper}/${flag}`, LETTERS), '', `${flag}: of the upper file`);
      await guest.run(['chattr', `-${flag}`, overlay.file(flag)]);
    }
  },
);

guestTest('flags of a file of more than 2 GiB are told and set on an overlay', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  for (const [at, name] of [
    [lower, 'below'],
    [upper, 'above'],
  ] as const) {
    await client.writeFile({ path: `${at}/${name}`, data: '' });
    await client.truncate({ path: `${at}/${name}`, length: 3 * 2 ** 30 });
  }
  await using overlay = await over(guest, client, layers);
  t.is(await flagsOf(guest, overlay.file('below'), LETTERS), '', 'of a lower file');
  await guest.run(['chattr', '+a', overlay.file('above')]);
  t.is(await flagsOf(guest, overlay.file('above'), LETTERS), 'a', 'of an upper file');
  await guest.run(['chattr', '-a', overlay.file('above')]);
});

guestTest('a file whose upper file is protected itself gets no flag more', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [, upper = ''] = layers;
  await fill(client, upper, ['f']);
  await guest.run(['chattr', '+i', `${upper}/f`]);
  try {
    await using overlay = await over(guest, client, layers);
    t.is(await flagsOf(guest, overlay.file('f'), LETTERS), 'i', 'as the upper file is');
    t.not((await guest.tryRun(['chattr', '+a', overlay.file('f')])).code, 0, 'refused');
    t.is(await flagsOf(guest, overlay.file('f'), LETTERS), 'i', 'as it was');
    t.is(await client.errno.getxattr({ path: `${upper}/f`, name: PROTATTR }), 'ENODATA');
  } finally {
    await guest.run(['chattr', '-i', `${upper}/f`]);
  }
});
