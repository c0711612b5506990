import test from 'ava';
import { fileOrder } from './file-order.ts';

test('file order: as told, then by name', (t) => {
  const order = fileOrder('["suites/b.test.ts","suites/a.test.ts"]', '/project');
  const files = ['a', 'c', 'b', 'd'].map((name) => `/project/suites/${name}.test.ts`);
  t.deepEqual(
    files.toSorted(order).map((file) => file.at(-9)),
    ['b', 'a', 'c', 'd'],
  );
});
