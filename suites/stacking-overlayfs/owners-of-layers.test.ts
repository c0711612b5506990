import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { idmapped, SHIFT, SHIFTED } from '../lib/idmapped.ts';
import { fill, layersOf } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** Owner and group of a file whose layer is an idmapped mount: those of the mount, whoever asks. */

const [OWNER, GROUP] = [1500, 1600];

guestTest(
  'who owns a file of an idmapped layer, and its group, have the rights on the overlay that they have on the mount',
  async (t, guest) => {
    await using client = await guest.client();
    const source = await guest.directory('ext4', 'source');
    await fill(client, source, ['owners', 'groups']);
    for (const [name, mode] of [
      ['owners', 0o600],
      ['groups', 0o060],
    ] as const) {
      await client.chown({ path: `${source}/${name}`, uid: OWNER, gid: GROUP });
      await client.chmod({ path: `${source}/${name}`, mode });
    }
    await using mapped = await idmapped(guest, client, source);
    const layers = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower: mapped.path, ...layers }, client);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await using undo = new AsyncDisposableStack();
    const callers: { what: string; caller: Client; gives: readonly string[] }[] = [];
    for (const [what, who, gives] of [
      [
        'the owner, of a group that has the number below',
        { uid: SHIFT + OWNER, gid: GROUP },
        ['ok', 'EACCES'],
      ],
      ['the group, with the number of the owner below', { uid: OWNER, gid: SHIFT + GROUP }, ['EACCES', 'ok']],
    ] as const) {
      const caller = undo.use(await guest.client());
      await caller.chdir({ path: overlay.path });
      await caller.setCredentials(who);
      callers.push({ what, caller, gives });
    }
    for (const when of ['in the lower layer', 'copied up']) {
      for (const { what, caller, gives } of callers) {
        const found: string[] = [];
        for (const path of ['owners', 'groups'])
          found.push(await caller.errno.access({ path, mode: 'R_OK' }));
        t.deepEqual(found, gives, `${when}: ${what} reads what is for the owner, and for the group`);
      }
      for (const name of ['owners', 'groups']) {
        const { uid, gid } = await client.stat({ path: overlay.file(name) });
        t.deepEqual([uid, gid], [SHIFT + OWNER, SHIFT + GROUP], `${when}: what stat tells of ${name}`);
        await client.utimens({ path: overlay.file(name), atimeNs: 'now', mtimeNs: 'now' });
        const copied = await client.stat({ path: `${layers.upper}/${name}` });
        t.deepEqual([copied.uid, copied.gid], [SHIFT + OWNER, SHIFT + GROUP], `${name} in the upper layer`);
      }
    }
  },
);

guestTest(
  'who mounts an overlay has the rights of its own number on an idmapped layer, not those of the number below',
  async (t, guest) => {
    await using root = await guest.client();
    const [source = '', other = ''] = await layersOf(guest, 2);
    await fill(root, source, ['closed', 'open']);
    await root.chmod({ path: `${source}/closed`, mode: 0o600 });
    await root.chmod({ path: `${source}/open`, mode: 0o644 });
    await root.chmod({ path: source, mode: 0o755 });
    await using mapped = await idmapped(guest, root, source);
    // Root that is root by its number alone.
    const launcher = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'];
    await using plain = await guest.client({ launcher });
    for (const [what, mounter, closed] of [
      ['root', root, 'ok'],
      ['root without capabilities for files', plain, 'EACCES'],
    ] as const) {
      await using overlay = await guest.mountOverlay({ lower: [mapped.path, other] }, mounter);
      await using caller = await guest.client();
      await caller.chdir({ path: overlay.path });
      await caller.setCredentials({ uid: SHIFT, gid: SHIFT });
      const reads = (path: string) => caller.errno.access({ path, mode: 'R_OK' });
      t.is(await reads('closed'), closed, `mounted by ${what}: a file of its owner alone, who asks`);
      t.is(await reads('open'), 'ok', `mounted by ${what}: a file for all`);
    }
  },
);

guestTest(
  'data of an owner whom their idmapped layer has no number for are not read, whoever the metadata belong to',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
    await using client = await guest.client();
    const [data = '', meta = ''] = await layersOf(guest, 2);
    for (const [name, uid] of [
      ['with', SHIFTED.count - 1],
      ['without', SHIFTED.count],
    ] as const) {
      const path = `${data}/${name}`;
      await client.writeFile({ path, data: 'contents' });
      await client.chown({ path, uid, gid: 0 });
      await client.chmod({ path, mode: 0o600 });
      await client.writeFile({ path: `${meta}/${name}`, data: '' });
      await client.truncate({ path: `${meta}/${name}`, length: 'contents'.length });
      for (const [mark, value] of [
        ['metacopy', ''],
        ['redirect', `/${name}`],
      ] as const) {
        await client.setxattr({ path: `${meta}/${name}`, name: `trusted.overlay.${mark}`, data: value });
      }
    }
    await using mapped = await idmapped(guest, client, data);
    const options = 'metacopy=on,redirect_dir=on';
    const layers = { lower: `${meta}::${mapped.path}`, ...(await upperOn(guest)), options };
    await using overlay = await guest.mountOverlay(layers, client);
    const opens = (name: string) => client.errno.open({ path: overlay.file(name), flags: 'O_RDONLY' });
    t.is(await opens('with'), 'ok', 'the last number that there is one for');
    t.is(await opens('without'), 'EACCES', 'the first that there is none for');
  },
);
