"""The simulator's plain word lists: what a text is taken for, in several languages. Mild words on purpose.

[words] → profile

A line is `mark: word, phrase, …`. A signal's mark is `kind.clause.weight`; two points of weight make it strong.
"""

from __future__ import annotations

SIGNALS = """
spam.link.2: click here, click the link, link in bio, visit my, visit our site, check my profile, klick hier, klicken sie hier, haz clic, clic aquí, cliquez ici, clique aqui, clicca qui, nhấn vào đây, bấm vào link, klik di sini, klik link, 点击链接, 点击这里, 点这里
spam.contact.2: telegram, whatsapp me, whatsapp, dm me, add me on, contact me at, text me at, inbox me, schreib mir auf, escríbeme, contactez moi, me chame no, contattami, liên hệ zalo, zalo, inbox mình, hubungi wa, hubungi saya, chat wa, 加微信, 加我微信, 微信号, 联系客服qq
spam.advertising.2: buy followers, cheap followers, crypto giveaway, double your money, double your bitcoin, earn money, make money fast, work from home, online casino, casino bonus, free spins, betting tips, weight loss pills, guaranteed profit, passive income, get rich, geld verdienen, schnell reich, gana dinero, dinero fácil, gagnez de l'argent, argent facile, ganhe dinheiro, guadagna, kiếm tiền online, kiếm tiền, việc nhẹ lương cao, cá cược, judi online, slot gacor, cuan cepat, pinjaman online, 赚钱, 兼职, 博彩, 刷单赚
spam.advertising.1: promo code, discount code, coupon code, use code, limited offer, act now, best prices at, cheapest price, our store, my shop, my channel, subscribe, follow me, rabattcode, gutscheincode, jetzt zugreifen, código de descuento, oferta limitada, code promo, offre limitée, código de desconto, codice sconto, mã giảm giá, ghé shop, shop mình, kode promo, diskon besar, kunjungi toko, 优惠码, 折扣码, 优惠券
abuse.insult.2: you idiot, you idiots, idiots, morons, moron, imbeciles, scumbags, scum, bunch of clowns, brainless, dumb people, shut up, pathetic losers, losers, idioten, trottel, dummköpfe, abschaum, halt die klappe, vollpfosten, idiota, idiotas, imbécil, imbéciles, estúpidos, cállate, crétin, crétins, abrutis, abruti, imbécile, bande de clowns, otários, imbecil, cretini, cretino, đồ ngu, lũ ngu, ngu ngốc, đồ khốn, bodoh, tolol, goblok, dasar bodoh, 白痴, 笨蛋, 蠢货, 滚蛋
abuse.insult.1: idiot, stupid, clowns, liars, crooks, disgusting people, shameless, dumm, lügner, unverschämt, estúpido, mentirosos, sinvergüenzas, stupide, menteurs, mentirosos, stupido, bugiardi, vô liêm sỉ, mất dạy, penipu, tidak tahu malu, 骗子, 无耻
abuse.threat.2: i will find you, we will find you, i know where you live, you will regret, you will pay for this, watch your back, burn down, ich finde euch, das werdet ihr bereuen, te voy a encontrar, te vas a arrepentir, je vais te retrouver, vous allez le regretter, vai se arrepender, te ne pentirai, tao sẽ tìm, coi chừng, awas kamu, kubakar, 走着瞧, 你等着
abuse.hate.2: go back to your country, people like you, those foreigners, your kind, geht zurück in euer land, vuelve a tu país, retourne dans ton pays, volte para o seu país, tornate al vostro paese, cút về nước, pulang ke negaramu, 滚回你的国家
fake.paid.2: promised a refund, promised me a refund, promised me money, paid review, paid for this review, paid to write, paid me to, in exchange for a review, in exchange for my review, in exchange for five stars, free in exchange, for free in exchange, gift card for, gift card in return, refund after review, refunded me for, five stars as agreed, 5 stars as agreed, as instructed by the seller, seller asked me to, the seller sent me, asked me to leave, review for cash, cashback for, gegen eine bewertung, für eine bewertung, gutschein für fünf sterne, bezahlte bewertung, gratis gegen, a cambio de una reseña, a cambio de reseña, reseña pagada, me pagaron, en échange d'un avis, avis payé, contre un avis, em troca de uma avaliação, in cambio di una recensione, đổi lấy đánh giá, được tặng để đánh giá, hoàn tiền sau đánh giá, review thuê, dibayar untuk, imbalan ulasan, ulasan bayaran, 好评返现, 返现, 刷好评, 给好评
fake.campaign.2: everyone should leave, all leave one star, leave one star, leave 1 star, review bomb, boycott this, join us in rating, our group is rating, copy this review, copy and paste this, part of the campaign, review group, review exchange, alle eine stern, gebt alle, dejen una estrella, copien esta reseña, mettez une étoile, copiez cet avis, deixem uma estrela, mettete una stella, mọi người đánh giá 1 sao, cùng đánh giá, beri bintang satu, serbu ulasan, 一起打一星, 一星轰炸, 复制这条评论
fake.campaign.1: best of the best, do not think, must have for every, everyone must have, thank you best company, best company in the world, best product ever, best purchase ever, changed my life, life changing, must buy, everyone must buy, buy it now, you will not regret, 100% recommended, perfect perfect, amazing amazing, bestes produkt aller zeiten, alle müssen kaufen, el mejor producto del mundo, compren ya, le meilleur produit du monde, achetez vite, o melhor produto do mundo, compratelo subito, sản phẩm tốt nhất thế giới, mua ngay đi, produk terbaik di dunia, wajib beli, 史上最好, 赶紧买
fake.customer.1: never bought, have never used, never owned, have not bought, haven't bought, didn't buy, never used it, have not tried it, not used it yet, a friend told me, nie gekauft, nicht gekauft, nunca compré, no lo compré, jamais acheté, nunca comprei, mai comprato, chưa mua, chưa dùng, belum beli, belum pernah beli, 没买过, 还没用
fake.competitor.2: i work for, we work for, our company makes, our competitor, my company sells, ich arbeite für, trabajo para, je travaille pour, trabalho para, lavoro per, tôi làm cho, saya bekerja di, 我在公司
injection.instructions.2: ignore previous, ignore all previous, ignore all instructions, ignore the above, ignore your instructions, ignore the instructions, ignore any, disregard previous, disregard all, disregard the, forget your instructions, forget all previous, system prompt, system message, you are now, act as, new instructions, override the, developer mode, mark this review as, mark this as, classify this as, approve this review, must be published, set decision, respond with, reply only with, output only, answer only, only valid output, valid output, end of event, note to the moderator, to the ai, dear ai, ai model, language model, assistant:, system:, ignoriere alle, ignoriere die, vorherigen anweisungen, systemprompt, ignora las instrucciones, ignora todas, instrucciones anteriores, ignore les instructions, ignorez les, ignore toutes, instructions précédentes, ignore as instruções, instruções anteriores, ignora le istruzioni, istruzioni precedenti, bỏ qua mọi, bỏ qua các hướng dẫn, hướng dẫn trước, abaikan instruksi, abaikan semua, instruksi sebelumnya, 忽略之前, 忽略以上, 忽略所有, 系统提示, 以上指令
"""

SENTIMENT = """
+: good, great, excellent, amazing, love, loved, perfect, perfectly, wonderful, fantastic, happy, recommend, comfortable, beautiful, fast, sturdy, nice, satisfied, pleased, helpful, worth, best, superb, brilliant, delicious, reliable, gut, sehr gut, super, toll, klasse, prima, zufrieden, begeistert, empfehle, empfehlen, schnell, perfekt, hervorragend, ausgezeichnet, schön, bueno, buena, excelente, genial, perfecto, perfecta, encanta, encantó, recomiendo, contento, contenta, rápido, maravilloso, feliz, bon, bonne, excellent, parfait, parfaite, adore, génial, recommande, ravi, ravie, satisfait, rapide, magnifique, bom, boa, ótimo, ótima, excelente, perfeito, adorei, recomendo, buono, ottimo, ottima, perfetto, consiglio, soddisfatto, tốt, tuyệt, tuyệt vời, đẹp, hài lòng, thích, ưng, nhanh, chất lượng tốt, bagus, mantap, puas, cepat, suka, keren, recommended, terbaik, nyaman, 很好, 好用, 喜欢, 满意, 推荐, 不错, 完美, 漂亮, 很快
-: bad, terrible, awful, horrible, broke, broken, poor, poorly, worst, disappointed, disappointing, waste, useless, defective, slow, never again, refund, returned, cheap, flimsy, uncomfortable, rude, late, damaged, missing, leaks, annoying, hate, schlecht, schlechte, furchtbar, kaputt, enttäuscht, enttäuschend, defekt, langsam, mangelhaft, nie wieder, verspätet, malo, mala, pésimo, pésima, horrible, roto, rota, decepcionado, decepcionada, decepción, defectuoso, lento, tarde, mauvais, mauvaise, nul, nulle, cassé, cassée, déçu, déçue, défectueux, lent, horrible, ruim, péssimo, péssima, quebrado, decepcionado, defeito, cattivo, pessimo, pessima, rotto, deluso, difettoso, tệ, kém, hỏng, thất vọng, chậm, xấu, lỗi, jelek, buruk, rusak, kecewa, lambat, cacat, parah, 很差, 太差, 差评, 失望, 坏了, 垃圾, 慢, 退货, 难用
"""

ASPECTS = """
quality: quality, durable, durability, material, sturdy, flimsy, broke, broken, defective, qualität, verarbeitung, material, kaputt, calidad, roto, qualité, matière, cassé, qualidade, qualità, chất lượng, hỏng, kualitas, rusak, 质量, 坏了
price: price, expensive, cheap, value, money, cost, overpriced, preis, teuer, günstig, geld, precio, caro, barato, prix, cher, preço, prezzo, giá, đắt, rẻ, harga, mahal, murah, 价格, 便宜, 太贵
delivery: delivery, shipping, shipped, arrived, late, courier, lieferung, versand, geliefert, angekommen, envío, entrega, llegó, livraison, livré, arrivé, spedizione, consegna, giao hàng, ship, giao, pengiriman, kirim, sampai, 物流, 快递, 发货
packaging: packaging, package, box, packed, verpackung, karton, embalaje, caja, emballage, boîte, embalagem, caixa, imballaggio, đóng gói, hộp, kemasan, packing, dus, 包装
service: service, support, staff, seller, refund, rude, helpful, kundendienst, kundenservice, verkäufer, service, servicio, atención, vendedor, vendeur, atendimento, servizio, dịch vụ, nhân viên, shop, pelayanan, penjual, 客服, 服务, 卖家
fit: size, fit, fits, tight, loose, small, large, größe, passt, klein, talla, pequeño, taille, petit, tamanho, taglia, kích cỡ, vừa, chật, rộng, ukuran, sempit, 尺寸, 尺码, 偏小
design: design, colour, color, looks, style, beautiful, ugly, farbe, aussehen, schön, diseño, bonito, couleur, joli, cor, bonito, colore, bello, màu, đẹp, desain, warna, 颜色, 好看
comfort: comfortable, uncomfortable, comfort, soft, bequem, weich, cómodo, confortable, confortável, comodo, thoải mái, êm, nyaman, empuk, 舒服
performance: battery, fast, slow, screen, sound, works, power, speed, akku, leistung, klang, batería, pantalla, sonido, batterie, écran, son, bateria, tela, batteria, schermo, pin, màn hình, âm thanh, baterai, layar, suara, 电池, 屏幕, 声音
taste: taste, delicious, flavour, flavor, fresh, geschmack, lecker, sabor, rico, goût, délicieux, gosto, gusto, vị, ngon, rasa, enak, 味道, 好吃
"""

TOPICS = """
billing: invoice, billing, charged, charge, payment, card, subscription, receipt, price, paid, rechnung, zahlung, abgebucht, factura, pago, cobro, facture, paiement, thanh toán, hóa đơn, tagihan, pembayaran, 账单, 付款
refund: refund, money back, return, returned, erstattung, rückgabe, reembolso, devolución, remboursement, hoàn tiền, pengembalian, 退款, 退货
account: login, log in, password, account, sign in, locked, two factor, konto, passwort, anmelden, cuenta, contraseña, compte, mot de passe, tài khoản, mật khẩu, akun, kata sandi, 账号, 密码
technical: bug, error, crash, crashes, broken, not working, fails, exception, timeout, api, fehler, absturz, funktioniert nicht, falla, no funciona, erreur, ne fonctionne pas, lỗi, không hoạt động, eror, tidak bisa, 错误, 崩溃
shipping: delivery, shipping, package, arrived, courier, tracking, lieferung, paket, envío, paquete, livraison, colis, giao hàng, pengiriman, 快递, 物流
feature: feature, would be nice, suggestion, please add, wish, wunsch, vorschlag, sugerencia, suggestion, đề xuất, saran, 建议
cancellation: cancel, cancellation, unsubscribe, close my account, kündigen, kündigung, cancelar, résilier, annuler, hủy, batal, 取消
question: how do i, how can i, where is, what is, question, wie kann ich, frage, cómo puedo, pregunta, comment, làm sao, bagaimana, 怎么
"""

URGENT = """
urgent: urgent, urgently, asap, immediately, emergency, outage, down, production, critical, security, breach, data loss, cannot work, right now, dringend, sofort, notfall, urgente, inmediatamente, d'urgence, immédiatement, khẩn cấp, gấp, segera, darurat, 紧急, 马上
"""

STOPWORDS = """
en: the, and, is, it, this, was, for, with, not, but, very, have, are, my, you, of, to, that, i, they, on, in, so, at, all
de: der, die, das, und, ist, nicht, ich, ein, eine, sehr, mit, für, aber, war, auch, den, von, zu, es, wir, hat, auf
es: el, la, los, las, y, es, no, muy, con, para, pero, que, una, un, lo, por, de, está, fue, mi, se, en
fr: le, la, les, et, est, pas, très, avec, pour, mais, une, un, je, de, du, des, que, ce, il, au, c'est, j'ai
pt: o, a, os, as, e, não, muito, com, para, mas, que, uma, um, do, da, de, foi, está, meu, no, em
it: il, lo, la, gli, e, non, molto, con, per, ma, che, una, un, di, del, è, sono, mio, ho, questo
nl: de, het, een, en, is, niet, zeer, met, voor, maar, ik, dat, van, op, heel, goed
vi: và, là, không, rất, với, cho, nhưng, của, một, tôi, này, được, mình, có, thì, đã, hàng, shop
id: dan, yang, tidak, sangat, dengan, untuk, tapi, ini, itu, saya, di, dari, sudah, barang, nya, banget, ada
tr: ve, bir, bu, çok, için, ama, değil, ile, ürün, ben, da, de, gibi
pl: i, nie, jest, bardzo, z, na, ale, to, się, do, w, że
"""


def parse_lists(table: str) -> list[tuple[str, str]]:
    """Pairs of word (or phrase) and mark."""
    pairs = []
    for line in filter(None, table.splitlines()):
        mark, _, words = line.partition(": ")
        pairs += [(word.strip(), mark) for word in words.split(", ")]
    return pairs
