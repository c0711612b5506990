import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { overlayOptionsAt } from '../lib/mounted-at.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** Lower layers by whose numbers (UUIDs) an overlay finds the files again that it has copied, or cannot. */

const UUID = 'trusted.overlay.uuid';
const NUMBERS = [new Uint8Array(16).fill(0xa1), new Uint8Array(16).fill(0xb2)] as const;
const WITH_HANDLES = 'index=on,nfs_export=on,redirect_dir=on,uuid=on';
const WITHOUT_UPPER = 'redirect_dir=nofollow,xino=auto';

/** An overlay with this number and `f` and `g`, for a lower layer. It has file handles. */
async function numbered(guest: TestGuest, client: Client, number: Uint8Array): Promise<StackedMount> {
  const lower = await guest.directory('ext4', 'lower');
  await fill(client, lower, ['f', 'g']);
  const layers = await upperOn(guest);
  await client.setxattr({ path: layers.upper, name: UUID, data: number });
  return guest.mountOverlay({ lower, ...layers, options: WITH_HANDLES }, client);
}

/** Two with one number, and one with another. */
async function numberedThree(guest: TestGuest, client: Client) {
  guest.needs(guest.expected.overlaysWithDataLayers, 'numbers of overlays');
  await using undo = new AsyncDisposableStack();
  const one = undo.use(await numbered(guest, client, NUMBERS[0]));
  const twin = undo.use(await numbered(guest, client, NUMBERS[0]));
  const other = undo.use(await numbered(guest, client, NUMBERS[1]));
  const all = undo.move();
  return { one, twin, other, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** What the kernel says of overlays meanwhile. */
async function saidDuring(guest: TestGuest, work: () => Promise<void>): Promise<string[]> {
  const after = (await guest.kernelLog()).at(-1)?.seq;
  await work();
  const said = (await guest.kernelLog(after)).map(({ text }) => text);
  return said.filter((line) => /^overlayfs: .*uuid/.test(line));
}

/** Those of the options in effect that need files to be found by their handles. */
async function shownAt(client: Client, path: string): Promise<string[]> {
  const shown = await overlayOptionsAt(client, path);
  return shown.filter((option) => /^(index|nfs_export|xino)=/.test(option));
}

/** By options and whether there is an upper layer, what is in effect where two lower layers have one number. */
const SAME: readonly (readonly [
  what: string,
  upper: boolean,
  options: string,
  apart: readonly string[],
  same: readonly string[],
])[] = [
  [
    'handles and lasting numbers',
    true,
    'index=on,nfs_export=on,xino=auto',
    ['index=on', 'nfs_export=on', 'xino=auto'],
    [],
  ],
  ['numbers alone', true, 'xino=auto', ['xino=auto'], []],
  ['numbers that were asked for', true, 'index=on,xino=on', ['index=on', 'xino=on'], ['xino=on']],
  ['nothing', true, 'index=off', [], []],
  [
    'handles without an upper layer',
    false,
    `nfs_export=on,${WITHOUT_UPPER}`,
    ['nfs_export=on', 'xino=auto'],
    [],
  ],
  ['numbers without an upper layer', false, WITHOUT_UPPER, ['xino=auto'], ['xino=auto']],
];

guestTest.alone(
  'two lower filesystems with one number have no handles and no lasting numbers, and the kernel says so (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using three = await numberedThree(guest, client);
    const { one, twin, other } = three;
    for (const [what, hasUpper, options, apart, same] of SAME) {
      for (const [second, expected] of [
        [other, apart],
        [twin, same],
      ] as const) {
        const isTwin = second === twin;
        const layers = hasUpper ? await upperOn(guest) : {};
        const message = `${what}, ${isTwin ? 'one number' : 'two numbers'}`;
        const said = await saidDuring(guest, async () => {
          const lower = [one.path, second.path];
          await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
          t.deepEqual(await shownAt(client, overlay.path), expected, message);
          t.deepEqual(await client.readdir({ path: overlay.path }), ['f', 'g'], message);
        });
        const lost = isTwin && expected.length < apart.length;
        t.is(said.length, lost ? 1 : 0, `${message}: ${said.join('; ') || 'nothing is said'}`);
        const xino = expected.includes('xino=on') ? 'on' : 'off';
        const fallback = `falling back to xino=${xino},index=off,nfs_export=off.`;
        if (lost) t.true(said[0]?.includes('conflicting uuid detected in lower fs'), said[0]);
        if (lost) t.true(said[0]?.endsWith(fallback), said[0]);
      }
    }
  },
);

/** Device and number of a name, both of which tell the layer that a file comes from. */
async function identity(client: Client, path: string): Promise<Record<'dev' | 'ino', number>> {
  const { devMinor, ino } = await client.stat({ path });
  return { dev: devMinor, ino };
}

guestTest.alone(
  'a copied file is known as the lower one by the next mount only where one lower filesystem has its number (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using three = await numberedThree(guest, client);
    const { one, twin, other } = three;
    for (const [what, second, known] of [
      ['two numbers', other, true],
      ['one number', twin, false],
    ] as const) {
      const layers = await upperOn(guest);
      const lower = [one.path, second.path];
      const mount = () => guest.mountOverlay({ lower, ...layers, options: 'xino=off' }, client);
      {
        await using overlay = await mount();
        const before = await identity(client, overlay.file('f'));
        await client.chmod({ path: overlay.file('f'), mode: 0o600 });
        t.deepEqual(await identity(client, overlay.file('f')), before, `${what}: as long as it is mounted`);
      }
      await using overlay = await mount();
      await client.writeFile({ path: overlay.file('new'), data: '' });
      const { ino } = await client.stat({ path: known ? one.file('f') : `${layers.upper}/f` });
      const { dev } = await identity(client, overlay.file(known ? 'g' : 'new'));
      t.deepEqual(await identity(client, overlay.file('f')), { dev, ino }, `${what}: mounted again`);
    }
  },
);

/** By options, whether files of a lower filesystem without a number are known again; what xino is then. */
const NUMBERLESS: readonly (readonly [options: string, known: boolean, xino: readonly string[]])[] = [
  ['xino=auto', false, []],
  ['xino=auto,userxattr', false, []],
  ['xino=auto,redirect_dir=nofollow', false, []],
  ['xino=auto,redirect_dir=on', true, ['xino=auto']],
  ['xino=auto,metacopy=on', true, ['xino=auto']],
  ['xino=auto,index=on', true, ['xino=auto']],
  ['xino=on', true, ['xino=on']],
  ['xino=off', false, []],
];

guestTest(
  'files of a lower filesystem without a number are known again only with an option that forbids to change it meanwhile (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const init = { ...WITHOUT_PASSTHROUGH, addFlags: ['EXPORT_SUPPORT'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await fill(client, fuse.root, ['f']);
    for (const [options, known, xino] of NUMBERLESS) {
      const layers = await upperOn(guest);
      const mount = () => guest.mountOverlay({ lower: fuse.path, ...layers, options }, client);
      const said = await saidDuring(guest, async () => {
        await using overlay = await mount();
        const shown = (await shownAt(client, overlay.path)).filter((option) => option.startsWith('xino='));
        t.deepEqual(shown, xino, `${options}: in effect`);
        await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      });
      const lost = options.includes('xino=auto') && xino.length === 0;
      t.is(said.length, lost ? 1 : 0, `${options}: ${said.join('; ') || 'nothing is said'}`);
      if (lost) t.regex(said[0] ?? '', /null uuid detected in lower fs .* falling back to xino=off,/);
      await using overlay = await mount();
      await client.writeFile({ path: overlay.file('new'), data: '' });
      const [copied, made] = [
        await identity(client, overlay.file('f')),
        await client.stat({ path: `${layers.upper}/f` }),
      ];
      t.is(copied.ino === made.ino, !known, `${options}: the number of a copied file is that of the copy`);
    }
  },
);
